"""Exit codes of `chatd`, and how a failure is told to a person: what, where, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console

from chatd_server.config import BadConfig


class Exit(IntEnum):
    """Part of the tested contract of the command line: add, never change."""

    FAILED = 1
    USAGE = 2
    DATABASE = 3
    ADDRESS = 4


MEANINGS = {
    Exit.FAILED: (
        "not possible: an unknown key id, a server that is not healthy or refuses, a turn that "
        "failed"
    ),
    Exit.USAGE: "a wrong option or setting",
    Exit.DATABASE: "the database is gone, held by another server, or of another schema",
    Exit.ADDRESS: "the address cannot be listened on",
}
"""What each code means, as the docs say it."""


@contextmanager
def told() -> Iterator[None]:
    """Turn expected failures into a message on standard error and an exit code."""
    try:
        yield
    except Exception as error:
        known = explained(error)
        if known is None:
            raise
        fail(*known)


def explained(error: Exception) -> tuple[str, Exit] | None:
    """Return what to say of a failure, and the exit code; None for a defect of ours."""
    # Whoever raised these has imported their modules already.
    from chatd_server.domain.refusal import Refused, Unavailable
    from chatd_server.rpc.server import PortInUse
    from chatd_server.store.errors import StoreError

    match error:
        case BadConfig() | Refused():
            return str(error), Exit.USAGE
        case PortInUse():
            message = (
                f"cannot listen on {error}: another program uses the port, or the address is not "
                "of this machine; stop that program, or choose another with --port or --host"
            )
            return message, Exit.ADDRESS
        case StoreError() | Unavailable():
            return str(error), Exit.DATABASE
        case PermissionError():
            return f"{error.filename}: permission denied; whose is it?", Exit.FAILED
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", Exit.FAILED
        case _:
            return None


def fail(message: str, code: Exit) -> NoReturn:
    """Say what went wrong and leave."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[bold red]chatd:[/] ", end="")
    console.print(message, markup=False)
    raise typer.Exit(int(code))
