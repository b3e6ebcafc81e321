"""The main program: one Typer application with the commands of all files."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from chatd_server.cli import context, operate, talk
from chatd_server.cli.chats import chats_app, fork
from chatd_server.cli.exits import Exit, Failed, tell
from chatd_server.cli.queue import queue_app
from chatd_server.cli.serve import serve
from chatd_server.cli.watch import watch


def main() -> None:
    """Run the command line. With --json, every failure is JSON, also a wrong option."""
    as_json = asks_for_json(sys.argv[1:])
    try:
        code = command_line()(standalone_mode=not as_json)
    except Failed as failed:
        tell(failed, as_json=as_json)
        code = failed.code
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except typer.TyperException as wrong:
        tell(Failed(wrong.format_message(), Exit(wrong.exit_code)), as_json=as_json)
        code = wrong.exit_code
    sys.exit(code)


def asks_for_json(words: Sequence[str]) -> bool:
    """Return whether --json is among the options; words after -- are not options."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def command_line() -> typer.Typer:
    app = typer.Typer(
        name="chatd",
        help="A durable agent-chat service over gRPC.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_main)
    app.command()(serve)
    talk.register(app)
    context.register(app)
    app.add_typer(chats_app, name="chats")
    app.command()(fork)
    app.command()(watch)
    app.add_typer(queue_app, name="queue")
    app.command()(operate.migrate)
    app.add_typer(operate.keys_app, name="keys")
    app.command()(operate.health)
    app.command()(operate.version)
    app.add_typer(operate.config_app, name="config")
    return app


def _print_version(is_asked: bool) -> None:
    if is_asked:
        operate.version()
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A durable agent-chat service over gRPC."""
