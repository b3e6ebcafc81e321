"""The main program: one Typer application, to which each file adds its commands."""

import typer

from chatd_server.cli import operate, talk
from chatd_server.cli.serve import serve


def main() -> None:
    """Run the command line."""
    command_line()()


def command_line() -> typer.Typer:
    """Return the application with all its commands."""
    app = typer.Typer(
        name="chatd",
        help="A durable agent-chat service over gRPC.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.command()(serve)
    talk.register(app)
    app.command()(operate.migrate)
    app.add_typer(operate.keys_app, name="keys")
    app.command()(operate.health)
    app.command()(operate.version)
    app.add_typer(operate.config_app, name="config")
    return app
