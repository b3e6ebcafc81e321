"""The `chatd` command."""

import os
import sys

# grpc reads it when it is imported. Its own log repeats, in words about its sources, what the
# commands say in theirs.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

try:
    from chatd_server.cli.main import main
except KeyboardInterrupt:
    # It takes a second to load. The code is that of exits.py, which may not be loaded yet.
    sys.exit(130)

__all__ = ["main"]
