"""One server per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.server import Served, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A server with an empty database."""
    async with serving(tmp_path) as server:
        yield server
