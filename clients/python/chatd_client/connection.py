"""Where the server is, with which key, and how a channel to it is made."""

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from chatd_client.errors import InvalidRequest, PermissionDenied

HOST_DEFAULT, PORT_DEFAULT = "127.0.0.1", 7410
"""The default host of a server."""

PORT_MAX = 65535
_KEY = re.compile(r"chatd_[!-~]+")
_NOT_A_KEY = "not a chatd API key: keys begin with chatd_, and are one word of ASCII characters"
_HOST_AND_PORT = re.compile(r"(\[[^\[\]\s]+\]|[^\[\]:/,\s]+):(?P<port>[0-9]{1,5})")

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A dead connection is noticed within 80 seconds; the server allows pings every 20 seconds.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # After a restart of the server, the first tries follow quickly.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


@dataclass(frozen=True)
class Endpoint:
    """A server and a key for it. `key` never shows in a repr.

    `address` is "host:port", an IPv6 host in brackets; else InvalidRequest. A `key` that is not an
    API key is PermissionDenied; an empty one means that calls carry no key.
    """

    address: str
    key: str = field(repr=False)
    #: PEM of the root certificates; None means no TLS (loopback).
    root_certificates: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what grpc would reject unclearly, or misread."""
        checked_address(self.address)
        if self.key and not _KEY.fullmatch(self.key):
            raise PermissionDenied(_NOT_A_KEY)

    def channel(self) -> grpc.aio.Channel:
        """Open a channel."""
        if self.root_certificates is None:
            return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.root_certificates)
        return grpc.aio.secure_channel(self.address, credentials, options=CHANNEL_OPTIONS)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self.key}"),) if self.key else ()


def checked_address(address: str) -> str:
    """Return the address unchanged. Raises InvalidRequest unless it is host:port.

    grpc wraps a port above 65535, and uses 443 if there is none.
    """
    parts = _HOST_AND_PORT.fullmatch(address)
    if parts is None or not 0 < int(parts["port"]) <= PORT_MAX:
        raise InvalidRequest(
            f"{address!r} is not an address of a server: give host:port, such as 127.0.0.1:7410"
        )
    return address


def find_endpoint(
    address: str | None = None, key: str | None = None, *, home: Path | None = None
) -> Endpoint:
    """Return the endpoint that the arguments, the environment and the home folder name.

    `CHATD_ADDRESS` and `CHATD_KEY`; else host and port from `chatd.toml` in the home, and the root
    key there, which the server wrote at its first start. So the root key of a home is sent to no
    other server. It is used only if no key was given: an empty key is refused. The home is `home`,
    else `$CHATD_HOME`, else `~/.local/share/chatd`. Raises PermissionDenied for an empty key and
    for a file of the home that cannot be used, and what `Endpoint` raises.
    """
    if home is None:
        home = Path(os.environ.get("CHATD_HOME") or Path.home() / ".local" / "share" / "chatd")
    address = address or os.environ.get("CHATD_ADDRESS") or _server_of(home / "chatd.toml")
    if key is not None:
        return Endpoint(address, checked_key(key, "the argument `key`"))
    key = os.environ.get("CHATD_KEY")
    if key is not None:
        return Endpoint(address, checked_key(key, "CHATD_KEY"))
    return Endpoint(address, _root_key(home / "root.key"))


def checked_key(key: str, source: str) -> str:
    """Return a key given by `source`. Raises PermissionDenied, which names the source."""
    if not key:
        raise PermissionDenied(f"the key given by {source} is empty")
    if not _KEY.fullmatch(key):
        raise PermissionDenied(f"the value of {source} is {_NOT_A_KEY}")
    return key


def _server_of(path: Path) -> str:
    """Return the address in a settings file. Raises PermissionDenied."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        settings = {}
    except (OSError, ValueError) as error:
        raise PermissionDenied(
            f"{path} cannot be read, so the address of the server is unknown: {error}; give "
            "an address"
        ) from error
    host = str(os.environ.get("CHATD_HOST") or settings.get("host", HOST_DEFAULT))
    port = os.environ.get("CHATD_PORT") or settings.get("port", PORT_DEFAULT)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  read, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _root_key(path: Path) -> str:
    """Return the key in a file; empty if there is no file. Raises PermissionDenied."""
    try:
        key = path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}") from error
    if not _KEY.fullmatch(key):
        raise PermissionDenied(f"{path} does not hold a chatd API key")
    return key
