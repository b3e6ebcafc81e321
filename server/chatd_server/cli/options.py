"""Options that several commands share, and the settings that follow from them."""

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
    typer.Option(
        "--config", help="Settings file; default: CHATD_CONFIG, else chatd.toml in the home folder."
    ),
]
Home = Annotated[
    str | None,
    typer.Option("--home", help="Home folder; default: CHATD_HOME, else ~/.local/share/chatd."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="postgresql://... or sqlite:///path; default: chatd.db in the home folder.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="host:port of the server; default: CHATD_ADDRESS, else the settings of the home.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="API key; default: CHATD_KEY, else the root key of the home."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON; a failure is an object with `error`.")
]

JsonLines = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object per line; a failure is the last object, `error`."
    ),
]

RetrySeconds = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to retry while the server does not answer; 0: do not retry. Default: 60 s "
        "for a stream, 2 s for a call.",
    ),
]


def settings(config: str | None, **flags: object) -> Loaded:
    """Return the settings; warn about unknown variables of chatd. Raises BadConfig."""
    loaded = quiet_settings(config, **flags)
    for it in loaded.unknown_variables:
        warn(f"{it.name} is not a variable of chatd and has no effect; {it.advice}")
    return loaded


def quiet_settings(config: str | None, **flags: object) -> Loaded:
    """Return the settings; flags that were not given are None. Raises BadConfig."""
    given = {name: value for name, value in flags.items() if value is not None}
    return load(given, os.environ, config)


def server_address(config: Config, address: str | None) -> str:
    """Return the address of the server: the flag, else CHATD_ADDRESS, else the settings.

    All commands use this rule. So the root key of a home is sent only to the address in the
    settings of that home, or to one that the user gave. Raises BadConfig.
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
    """Return the address if the client accepts it. Raises BadConfig."""
    from chatd_client import InvalidRequest
    from chatd_client.connection import checked_address

    try:
        return checked_address(address)
    except InvalidRequest as error:
        raise BadConfig(str(error)) from error


def endpoint(config: Config, address: str | None, key: str | None) -> "Endpoint":
    """Return the server and a key for it. Raises BadConfig, PermissionDenied."""
    from chatd_client import find_endpoint
    from chatd_client.connection import checked_key

    given = None if key is None else checked_key(key, "--key")
    return find_endpoint(server_address(config, address), given, home=config.home_path)
