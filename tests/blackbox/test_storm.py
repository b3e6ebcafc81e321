"""A short storm on each database. `make storm SECONDS=... SEED=...` is the long one."""

from pathlib import Path

import pytest

from tests.blackbox.storm import Storm, running

SECONDS = 12
SEED = 1

pytestmark = pytest.mark.timeout(600)


async def test_subscribers_see_the_log_in_a_storm_on_sqlite(tmp_path: Path) -> None:
    """One server is killed and restarted, and no subscriber loses, repeats or reorders anything."""
    async with running(tmp_path, [""]) as servers:
        storm = Storm(servers, SEED, SECONDS)
        await storm.rage()
    assert storm.counted["chats"]
    assert storm.counted["kills"]


@pytest.mark.parametrize("count", [1, 2])
async def test_subscribers_see_the_log_in_a_storm_on_postgres(
    tmp_path: Path, postgres_url: str, count: int
) -> None:
    """The same with one server, and with two that share the database."""
    async with running(tmp_path, [postgres_url] * count) as servers:
        storm = Storm(servers, SEED, SECONDS)
        await storm.rage()
    assert storm.counted["chats"]
    assert storm.counted["kills"]
