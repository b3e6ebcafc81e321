"""The `chatd` command."""

from chatd_server.cli.main import main

__all__ = ["main"]
