"""Settings of the server: flag, then environment `CHATD_*`, then TOML file, then default.

Every field has one line that says what it is; `chatd config show` and the docs print these
lines. A secret can also be given by the name of a file that holds it (`..._FILE`).
"""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from chatd_server.config.variables import ENV_PREFIX, UnknownVariable, nearest, unknown_variables

FILE_NAME = "chatd.toml"
"""Name of the settings file in the home folder."""

ROOT_KEY_NAME = "root.key"
"""Name of the file in the home folder that holds the key of the first start."""

DATABASE_NAME = "chatd.db"
"""Name of the embedded database in the home folder."""

Source: TypeAlias = Literal["flag", "environment", "file", "default"]


class BadConfig(Exception):
    """A setting cannot be used; the message names it, its origin and what is allowed."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is told when it starts."""

    home: Annotated[
        str, Meta(description="Folder of the root key, the settings file and the database.")
    ] = ""
    database_url: Annotated[
        str,
        Meta(
            description="postgresql://... or sqlite:///path; empty: chatd.db in the home folder.",
            pattern=r"^(|postgres(ql)?://.+|sqlite:///.+)$",
            extra={"secret": True},
        ),
    ] = ""
    host: Annotated[
        str, Meta(description="Address to listen on.", min_length=1, max_length=253)
    ] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0: a free one.", ge=0, le=65535)] = (
        7410
    )
    reuse_port: Annotated[
        bool, Meta(description="Share the port with other servers of this machine.")
    ] = False
    migrate: Annotated[
        bool, Meta(description="Migrate a PostgreSQL schema at start; SQLite always is.")
    ] = False
    postgres_connections: Annotated[
        int, Meta(description="Connections to PostgreSQL for writes; four more read.", ge=1, le=200)
    ] = 8
    default_model: Annotated[
        str,
        Meta(description='"provider/model" of chats that name none.', pattern=r"^[^/\s]+/\S+$"),
    ] = "sandbox/echo"
    anthropic_api_key: Annotated[
        str, Meta(description="Key for models of Anthropic.", extra={"secret": True})
    ] = ""
    anthropic_base_url: Annotated[
        str, Meta(description="Another address for Anthropic's API; empty: Anthropic's own.")
    ] = ""
    runs_max: Annotated[
        int, Meta(description="Chats that this server works on at once.", ge=1, le=100_000)
    ] = 1000
    lease_seconds: Annotated[
        float,
        Meta(
            description="How long a chat stays with a worker that went silent; another one "
            "takes it over at most poll_seconds later.",
            ge=1,
            le=3600,
        ),
    ] = 30.0
    lease_heartbeat_seconds: Annotated[
        float, Meta(description="How often a worker renews its leases.", ge=0.1, le=1200)
    ] = 10.0
    poll_seconds: Annotated[
        float,
        Meta(
            description="How often work and ended leases are looked for without a hint.",
            ge=0.05,
            le=60,
        ),
    ] = 1.0
    drain_seconds: Annotated[
        float, Meta(description="How long running turns may finish at a stop.", ge=0, le=3600)
    ] = 20.0
    stream_heartbeat_seconds: Annotated[
        float, Meta(description="Pause between heartbeats of a silent stream.", ge=1, le=300)
    ] = 15.0
    event_retention_days: Annotated[
        float,
        Meta(
            description="How long events are kept; 0: for ever. Older ones are dropped at the "
            "start and every ten minutes.",
            ge=0,
            le=36_500,
        ),
    ] = 0.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="info: each RPC and each end of a turn; debug: each step of a turn, too."),
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"], Meta(description="json: one object per line; text: for people.")
    ] = "json"

    def __repr__(self) -> str:
        """Show nothing that is secret."""
        return f"Config(home={self.home!r}, database={self.shown_database!r}, port={self.port})"

    @property
    def home_path(self) -> Path:
        """The home folder."""
        return Path(self.home).expanduser()

    @property
    def root_key_path(self) -> Path:
        """The file with the key of the first start."""
        return self.home_path / ROOT_KEY_NAME

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    @property
    def own_address(self) -> str:
        """How this machine reaches the server: host:port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  read, not bound
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.database_url.startswith("postgres")

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded database; meaningless with PostgreSQL."""
        if self.database_url:
            return Path(self.database_url.removeprefix("sqlite:///")).expanduser()
        return self.home_path / DATABASE_NAME

    @property
    def shown_database(self) -> str:
        """The database for people: without a password."""
        return without_password(self.database_url) if self.is_postgres else str(self.sqlite_path)


class Setting(msgspec.Struct, frozen=True):
    """One setting as `chatd config show` prints it."""

    name: str
    #: Redacted.
    value: Any
    source: Source
    #: Where exactly: the flag, the variable or the file.
    origin: str
    description: str


class Loaded(msgspec.Struct, frozen=True):
    """The settings, and where each came from."""

    config: Config
    settings: tuple[Setting, ...]
    unknown_variables: tuple[UnknownVariable, ...]


class _Given(msgspec.Struct, frozen=True):
    value: Any
    source: Source
    origin: str


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], file: str | None = None
) -> Loaded:
    """Read all settings. `flags` holds only those that were given; raises BadConfig."""
    home = str(
        flags.get("home")
        or environment.get(f"{ENV_PREFIX}HOME")
        or Path.home() / ".local" / "share" / "chatd"
    )
    named = file or environment.get(f"{ENV_PREFIX}CONFIG")
    table, path = _table_of(Path(named) if named else Path(home).expanduser() / FILE_NAME, named)
    values: dict[str, Any] = {}
    settings: list[Setting] = []
    for name, described in _fields().items():
        given = _given(name, described, flags, environment, (table, path))
        if name == "home" and given.source in {"default", "file"}:
            given = _Given(home, "default", "")
        values[name] = _checked(name, described, given)
        settings.append(
            Setting(
                name=name,
                value=_redacted(described, values[name]),
                source=given.source,
                origin=given.origin,
                description=described.description or "",
            )
        )
    config = Config(**values)
    if config.lease_heartbeat_seconds * 2 > config.lease_seconds:
        raise BadConfig(
            f"lease_heartbeat_seconds ({config.lease_heartbeat_seconds:g}) must be at most half of "
            f"lease_seconds ({config.lease_seconds:g}), or one late beat loses the lease: lower "
            f"it to {config.lease_seconds / 3:g}, or raise lease_seconds"
        )
    return Loaded(
        config, tuple(settings), unknown_variables(environment, _names(_fields().values()))
    )


def server_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("chatd")
    except PackageNotFoundError:
        return "0.0.0"


def without_password(url: str) -> str:
    """Return a URL that may be shown: without a password, wherever it stands."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://***"
    # By hand: the hosts may be several, which urllib cannot read.
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':***' if colon else ''}{at}{hosts}"
    query = re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=netloc, query=query))


# --- one setting -----------------------------------------------------------------------------


class Described(msgspec.Struct, frozen=True):
    """What a setting may be, for the docs and for messages."""

    name: str
    kind: Any
    description: str
    is_secret: bool
    default: Any

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return _allowed(self.kind)


def described_settings() -> Sequence[Described]:
    """Return every setting, in order."""
    return tuple(_fields().values())


def _fields() -> Mapping[str, Described]:
    hints = get_type_hints(Config, include_extras=True)
    described = {}
    for field in msgspec.structs.fields(Config):
        meta = next(it for it in hints[field.name].__metadata__ if isinstance(it, Meta))
        described[field.name] = Described(
            name=field.name,
            kind=hints[field.name],
            description=meta.description or "",
            is_secret=bool((meta.extra or {}).get("secret")),
            default=field.default,
        )
    return described


def _given(
    name: str,
    described: Described,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    file: tuple[Mapping[str, Any], str],
) -> _Given:
    if flags.get(name) is not None:
        return _Given(flags[name], "flag", f"--{name.replace('_', '-')}")
    variable = f"{ENV_PREFIX}{name.upper()}"
    if variable in environment:
        return _Given(environment[variable], "environment", variable)
    table, path = file
    if described.is_secret and f"{variable}_FILE" in environment:
        origin = f"{variable}_FILE"
        return _Given(_secret(environment[origin], origin), "environment", origin)
    if name in table:
        return _Given(table[name], "file", path)
    if described.is_secret and f"{name}_file" in table:
        origin = f"{name}_file in {path}"
        return _Given(_secret(str(table[f"{name}_file"]), origin), "file", origin)
    return _Given(described.default, "default", "")


def _checked(name: str, described: Described, given: _Given) -> Any:
    try:
        return msgspec.convert(given.value, described.kind, strict=False)
    except msgspec.ValidationError as error:
        value = "(hidden)" if described.is_secret else repr(given.value)
        raise BadConfig(
            f"{name} = {value}, from {given.origin or given.source}, cannot be used: "
            f"{described.description} Allowed: {described.allowed}."
        ) from error


def _allowed(kind: Any) -> str:
    """Say what a setting may be, in words."""
    inner, meta = kind.__origin__, next(it for it in kind.__metadata__ if isinstance(it, Meta))
    if get_origin(inner) is Literal:
        return ", ".join(get_args(inner))
    if inner is bool:
        return "true, false"
    if inner is str:
        return f"text that matches `{meta.pattern}`" if meta.pattern else "text"
    number = "a whole number" if inner is int else "a number"
    limits = [f"from {meta.ge:g}"] if meta.ge is not None else []
    limits += [f"to {meta.le:g}"] if meta.le is not None else []
    return " ".join([number, *limits])


def _redacted(described: Described, value: Any) -> Any:
    if not described.is_secret or not value:
        return value
    return without_password(value) if "://" in value else "(set)"


def _secret(path: str, origin: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{origin} names {path}, which cannot be read: {error}") from error


def _table_of(path: Path, named: str | None) -> tuple[Mapping[str, Any], str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if named:
            raise BadConfig(f"the settings file {path} does not exist") from error
        return {}, str(path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"the settings file {path} cannot be read: {error}") from error
    known = _fields()
    allowed = _names(known.values())
    unknown = sorted(set(table) - allowed)
    if unknown:
        meant = [f"{it} (did you mean {near}?)" for it in unknown if (near := nearest(it, allowed))]
        others = [it for it in unknown if not nearest(it, allowed)]
        raise BadConfig(
            f"the settings file {path} has unknown settings: {', '.join(meant + others)}; "
            f"known are {', '.join(sorted(allowed))}"
        )
    return table, str(path)


# --- names -----------------------------------------------------------------------------------


def _names(settings: Collection[Described]) -> set[str]:
    """Return what settings are called: a secret also by the file that holds it."""
    return {it.name for it in settings} | {f"{it.name}_file" for it in settings if it.is_secret}
