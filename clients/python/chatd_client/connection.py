"""Where the server is, with which key, and how a channel to it is made."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import grpc

ADDRESS_DEFAULT = "127.0.0.1:7410"

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A dead connection is noticed within 80 seconds; the server allows pings every 20 seconds.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # After a restart of the server the first tries come quickly.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


@dataclass(frozen=True)
class Endpoint:
    """A server and a key for it. `key` never shows in a repr."""

    address: str
    key: str = field(repr=False)
    #: PEM of the root certificates; None means no TLS (loopback).
    root_certificates: bytes | None = None

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


def find_endpoint(address: str | None = None, key: str | None = None) -> Endpoint:
    """Return the endpoint that the arguments, the environment and the home folder name.

    `CHATD_ADDRESS` and `CHATD_KEY`; else the loopback default and the root key of
    `$CHATD_HOME` (by default `~/.local/share/chatd`), which the server wrote at its first start.
    """
    home = Path(os.environ.get("CHATD_HOME") or Path.home() / ".local" / "share" / "chatd")
    address = address or os.environ.get("CHATD_ADDRESS") or ADDRESS_DEFAULT
    key = key or os.environ.get("CHATD_KEY")
    if key is None:
        root_key = home / "root.key"
        key = root_key.read_text().strip() if root_key.is_file() else ""
    return Endpoint(address, key)
