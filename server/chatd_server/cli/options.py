"""Options that several commands share, and how they become settings."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from chatd_server.cli.exits import warn
from chatd_server.config.load import BadConfig, Loaded, load
from chatd_server.config.settings import Config

if TYPE_CHECKING:
    from chatd_client import Endpoint

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", help="Settings file; else CHATD_CONFIG, else chatd.toml at home."),
]
Home = Annotated[
    str | None,
    typer.Option("--home", help="Home folder; else CHATD_HOME, else ~/.local/share/chatd."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url", help="postgresql://... or sqlite:///path; else chatd.db at home."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="host:port of the server; else CHATD_ADDRESS, else as the settings of the home say.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="API key; else CHATD_KEY, else the root key of the home."),
]
Json = Annotated[
    bool, typer.Option("--json", help="For a machine: JSON; a failure is an object with `error`.")
]

RetrySeconds = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to try to reach a server that is away; 0: once. Else a stream is tried "
        "for a minute, and a call for two seconds.",
    ),
]


def settings(config: str | None, **flags: object) -> Loaded:
    """Return the settings, and warn of variables that chatd does not read. Raises BadConfig."""
    loaded = quiet_settings(config, **flags)
    for it in loaded.unknown_variables:
        warn(f"{it.name} is not a variable of chatd and has no effect; {it.advice}")
    return loaded


def quiet_settings(config: str | None, **flags: object) -> Loaded:
    """Return the settings; flags that were not given are None. Raises BadConfig."""
    given = {name: value for name, value in flags.items() if value is not None}
    return load(given, os.environ, config)


def server_address(config: Config, address: str | None) -> str:
    """Return where the server is: the flag, else CHATD_ADDRESS, else what the settings name.

    The one rule of all commands. So the root key of a home goes nowhere but to the address that
    this home's settings name, or to one that the user gave. Raises BadConfig.
    """
    given = address or os.environ.get("CHATD_ADDRESS")
    if given:
        return _checked(given)
    if config.server.port == 0:
        raise BadConfig(
            "port = 0 means any free port, so the settings do not say where the server is: "
            "give --address or CHATD_ADDRESS"
        )
    return config.own_address


def _checked(address: str) -> str:
    """Return an address that the client takes; it owns the rule."""
    from chatd_client import InvalidRequest
    from chatd_client.connection import checked_address

    try:
        return checked_address(address)
    except InvalidRequest as error:
        raise BadConfig(str(error)) from error


def endpoint(config: Config, address: str | None, key: str | None) -> "Endpoint":
    """Return the server to talk to, with a key for it. Raises BadConfig, PermissionDenied."""
    from chatd_client import find_endpoint
    from chatd_client.connection import checked_key

    given = None if key is None else checked_key(key, "--key")
    return find_endpoint(server_address(config, address), given, home=config.home_path)
