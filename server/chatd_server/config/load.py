"""Settings of the server: flag, then environment `CHATD_*`, then TOML file, then default.

Every field has one line that says what it is; `chatd config show` and the docs print these
lines. A secret can also be given by the name of a file that holds it (`..._FILE`).
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from chatd_server.config.settings import Config, without_password
from chatd_server.config.variables import ENV_PREFIX, UnknownVariable, nearest, unknown_variables

FILE_NAME = "chatd.toml"
"""Name of the settings file in the home folder."""

Source: TypeAlias = Literal["flag", "environment", "file", "default"]


class BadConfig(Exception):
    """A setting cannot be used; the message names it, its origin and what is allowed."""


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
    sections: dict[str, Any] = {
        section: kind(**{field: values[field] for field in kind.__struct_fields__})
        for section, kind in _sections().items()
    }
    config = Config(**sections)
    lease, beat = config.worker.lease_seconds, config.worker.lease_heartbeat_seconds
    if beat * 2 > lease:
        raise BadConfig(
            f"lease_heartbeat_seconds ({beat:g}) must be at most half of lease_seconds "
            f"({lease:g}), or one late beat loses the lease: lower it to {lease / 3:g}, or raise "
            "lease_seconds"
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
    described: dict[str, Described] = {}
    for section in _sections().values():
        hints = get_type_hints(section, include_extras=True)
        for field in msgspec.structs.fields(section):
            meta = next(it for it in hints[field.name].__metadata__ if isinstance(it, Meta))
            described[field.name] = Described(
                name=field.name,
                kind=hints[field.name],
                description=meta.description or "",
                is_secret=bool((meta.extra or {}).get("secret")),
                default=(
                    field.default
                    if field.default_factory is msgspec.NODEFAULT
                    else field.default_factory()
                ),
            )
    return described


def _sections() -> Mapping[str, type[msgspec.Struct]]:
    return get_type_hints(Config)


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
    value = given.value
    try:
        if get_origin(described.kind.__origin__) is dict and isinstance(value, str):
            value = _mapping(value)
        return msgspec.convert(value, described.kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        value = "(hidden)" if described.is_secret else repr(given.value)
        raise BadConfig(
            f"{name} = {value}, from {given.origin or given.source}, cannot be used: "
            f"{described.description} Allowed: {described.allowed}."
        ) from error


def _mapping(text: str) -> dict[str, str]:
    """Return a mapping that is written as "name=value,name=value". Raises ValueError."""
    pairs = [it.rpartition("=") for it in text.split(",") if it.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError("not every item is name=value")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _allowed(kind: Any) -> str:
    """Say what a setting may be, in words."""
    inner, meta = kind.__origin__, next(it for it in kind.__metadata__ if isinstance(it, Meta))
    if get_origin(inner) is Literal:
        return ", ".join(get_args(inner))
    if inner is bool:
        return "true, false"
    if get_origin(inner) is dict:
        return f"`name=value,name=value`, or a table in the file; {_allowed(get_args(inner)[1])}"
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
