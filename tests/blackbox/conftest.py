"""Servers to test from outside: each in its own process, on each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.blackbox.servers import Server
from tests.blackbox.storm import running


@pytest.fixture(params=["sqlite", "postgres"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """Run one server."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with running(tmp_path, [url]) as (only,):
        yield only
