"""Exit codes of `chatd`, and how it reports failures: what happened, then what to do."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from types import MappingProxyType

import typer
from rich.console import Console

from chatd_client import ChatdError, PermissionDenied, Unavailable
from chatd_server.config.load import BadConfig


class Exit(IntEnum):
    """Part of the tested contract of the command line: add, never change."""

    FAILED = 1
    USAGE = 2
    DATABASE = 3
    ADDRESS = 4
    WAITING = 5
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    Exit.FAILED: (
        "not possible: an unknown key id, a server that is not healthy or refuses, a turn that "
        "failed"
    ),
    Exit.USAGE: "a wrong option or setting",
    Exit.DATABASE: "the database is gone, held by another server, or of another schema",
    Exit.ADDRESS: "`chatd serve` cannot listen on the address",
    Exit.WAITING: (
        "`chatd send` got no answer, because the chat waits for results of client tools"
    ),
    Exit.INTERRUPTED: "ended by Ctrl-C",
    Exit.TERMINATED: "`chatd chat` was ended by SIGTERM",
}

START_ONE = "Start a server with `chatd serve`, or give another address with --address"

UNREACHABLE = "UNREACHABLE"

TURN_FAILED = "TURN_FAILED"

WAITING_FOR_TOOLS = "WAITING_FOR_TOOLS"
"""Another program must submit results before there is an answer."""


class Failed(Exception):
    """A command failed; `main` reports it and exits with the code.

    `reason` is for programs: the server's or ours, else the name of the code. `facts` are the
    fields next to the error in JSON.
    """

    def __init__(
        self,
        message: str,
        code: Exit,
        reason: str = "",
        facts: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or code.name
        self.facts = facts


@contextmanager
def told() -> Iterator[None]:
    """Turn expected failures into Failed, and Ctrl-C into its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.INTERRUPTED)) from None
    except BrokenPipeError:
        raise  # nobody reads the output any more: Click exits silently
    except Exception as error:
        known = explained(error)
        if known is None:
            raise
        raise known from None


def explained(error: Exception) -> Failed | None:
    """Return the report of an expected failure; None for any other error."""
    if isinstance(error, ChatdError):
        nobody = UNREACHABLE if isinstance(error, Unavailable) else ""
        return Failed(_advice(error), Exit.FAILED, error.reason or nobody)
    # The code that raised these has imported their modules already.
    from chatd_server.domain.refusal import DatabaseUnavailable, Refused
    from chatd_server.rpc.edge.listen import PortInUse
    from chatd_server.store.shared.errors import StoreError

    match error:
        case BadConfig() | Refused():
            return Failed(str(error), Exit.USAGE)
        case PortInUse():
            message = (
                f"cannot listen on {error}: another program uses the port, or this host does not "
                "have the address; stop that program, or choose another with --port or --host"
            )
            return Failed(message, Exit.ADDRESS)
        case StoreError() | DatabaseUnavailable():
            return Failed(str(error), Exit.DATABASE)
        case PermissionError():
            message = f"{error.filename}: permission denied: check the owner of the file"
            return Failed(message, Exit.FAILED)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return Failed(f"{where}{error.strerror or error}", Exit.FAILED)
        case _:
            return None


def _advice(error: ChatdError) -> str:
    """Return the message with what to do about it."""
    if isinstance(error, Unavailable) and not error.reason:
        return f"{error}. {START_ONE}"
    if isinstance(error, PermissionDenied):
        return f"{error}. To give another key: --key, CHATD_KEY, or root.key in CHATD_HOME"
    return str(error)


def tell(failed: Failed, *, as_json: bool) -> None:
    """Report a failure: to a person on standard error, to a program on standard output."""
    if not as_json:
        _say("[bold red]chatd:[/] ", str(failed))
        return
    error = {"reason": failed.reason, "message": str(failed), "exit_code": int(failed.code)}
    print(json.dumps({**failed.facts, "error": error}, ensure_ascii=False), flush=True)


def warn(message: str) -> None:
    _say("[bold yellow]chatd: warning:[/] ", message)


def _say(who: str, message: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(who, end="")
    console.print(message, markup=False)
