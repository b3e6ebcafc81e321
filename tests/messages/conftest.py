"""Messages while the chat is busy: over a real channel, on both databases.

With `edge` the test is the worker of each chat, so it holds every status. With `served` a whole
server runs, its worker and the sandbox included.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.server import Served, serving
from tests.subscribe.conftest import clock, edge, open_store, serve

__all__ = ["clock", "edge", "open_store", "serve"]


@pytest.fixture(params=["sqlite", "postgres"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """A server with an empty database."""
    settings = {}
    if request.param == "postgres":
        settings = {"database_url": request.getfixturevalue("postgres_url"), "migrate": True}
    async with serving(tmp_path, **settings) as server:
        yield server
