"""Exit codes of `chatd`, and how a failure is told to a person: what, where, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console

from chatd_client import ChatdError, PermissionDenied, Unavailable
from chatd_server.config import BadConfig


class Exit(IntEnum):
    """Part of the tested contract of the command line: add, never change."""

    FAILED = 1
    USAGE = 2
    DATABASE = 3
    ADDRESS = 4
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    Exit.FAILED: (
        "not possible: an unknown key id, a server that is not healthy or refuses, a turn that "
        "failed"
    ),
    Exit.USAGE: "a wrong option or setting",
    Exit.DATABASE: "the database is gone, held by another server, or of another schema",
    Exit.ADDRESS: "the address cannot be listened on",
    Exit.INTERRUPTED: "ended by Ctrl-C",
    Exit.TERMINATED: "`chatd chat` was ended by SIGTERM",
}
"""What each code means, as the docs say it."""


START_ONE = "Start a server with `chatd serve`, or give another address with --address"
"""What to do where no server is."""


@contextmanager
def told() -> Iterator[None]:
    """Turn expected failures into a message on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.INTERRUPTED)) from None
    except BrokenPipeError:
        raise  # who read the output has left: Click ends without a word
    except Exception as error:
        known = explained(error)
        if known is None:
            raise
        fail(*known)


def explained(error: Exception) -> tuple[str, Exit] | None:
    """Return what to say of a failure, and the exit code; None for a defect of ours."""
    if isinstance(error, ChatdError):
        return _advice(error), Exit.FAILED
    # Whoever raised these has imported their modules already.
    from chatd_server.domain.refusal import DatabaseUnavailable, Refused
    from chatd_server.rpc.server import PortInUse
    from chatd_server.store.errors import StoreError

    match error:
        case BadConfig() | Refused():
            return str(error), Exit.USAGE
        case PortInUse():
            message = (
                f"cannot listen on {error}: another program uses the port, or this host does not "
                "have the address; stop that program, or choose another with --port or --host"
            )
            return message, Exit.ADDRESS
        case StoreError() | DatabaseUnavailable():
            return str(error), Exit.DATABASE
        case PermissionError():
            return f"{error.filename}: permission denied: check the owner of the file", Exit.FAILED
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", Exit.FAILED
        case _:
            return None


def _advice(error: ChatdError) -> str:
    """Return what a server said, or that none did, and what to do about it."""
    if isinstance(error, Unavailable) and not error.reason:
        return f"{error}. {START_ONE}"
    if isinstance(error, PermissionDenied):
        return f"{error}. To give another key: --key, CHATD_KEY, or root.key in CHATD_HOME"
    return str(error)


def fail(message: str, code: Exit) -> NoReturn:
    """Say what went wrong and leave."""
    _say("[bold red]chatd:[/] ", message)
    raise typer.Exit(int(code))


def warn(message: str) -> None:
    """Say what is probably a mistake and go on."""
    _say("[bold yellow]chatd: warning:[/] ", message)


def _say(who: str, message: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(who, end="")
    console.print(message, markup=False)
