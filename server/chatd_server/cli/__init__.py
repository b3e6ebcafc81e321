"""The `chatd` command."""

import os

# grpc reads it when it is imported. Its own log repeats, in words about its sources, what the
# commands say in theirs.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from chatd_server.cli.main import main

__all__ = ["main"]
