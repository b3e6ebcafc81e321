"""A server in this process, and a client of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd_client import Client
from tests.kit.server import Served, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Run a server."""
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    """Connect to it."""
    async with Client(served.app.address, served.key) as connected:
        yield connected
