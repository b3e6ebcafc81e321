"""Options that several commands share, and how they become settings."""

import os
from typing import Annotated

import typer

from chatd_server.config import Loaded, load

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
Json = Annotated[bool, typer.Option("--json", help="For a machine: one JSON object.")]


def settings(config: str | None, **flags: object) -> Loaded:
    """Return the settings; flags that were not given are None. Raises BadConfig."""
    given = {name: value for name, value in flags.items() if value is not None}
    return load(given, os.environ, config)
