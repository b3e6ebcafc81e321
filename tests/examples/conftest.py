"""What the programs of this folder talk to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd_server.demo.server import ServerProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """Start a server, and stop it."""
    started = ServerProcess(tmp_path)
    await started.start()
    yield started
    await started.stop()
