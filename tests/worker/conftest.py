"""Worlds with one worker, on each store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd_server.store.postgres.migrate import migrate
from tests.kit.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield a scenario with its own store and a running worker."""
    async with World(tmp_path / "chats.db") as world:
        world.start()
        yield world


@pytest.fixture
async def shared(tmp_path: Path, postgres_url: str) -> AsyncIterator[World]:
    """Yield a scenario on PostgreSQL; the test starts its workers."""
    await migrate(postgres_url)
    async with World(tmp_path, postgres_url) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgres"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Yield a scenario on each store in turn."""
    url = ""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        await migrate(url)
    async with World(tmp_path / "chats.db", url) as world:
        yield world
