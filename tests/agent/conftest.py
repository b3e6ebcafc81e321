"""A world with one worker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield a scenario with its own store and a running worker."""
    async with World(tmp_path / "chats.db") as world:
        world.start()
        yield world
