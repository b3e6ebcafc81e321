"""Fixtures that every area may use. What belongs to one area stands in tests/<area>/conftest.py."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kit.postgres import Postgres, PostgresUnavailableError, running_postgres
from tests.kit.require import missing

# How long a task that is already ending may take: a closed gRPC channel needs a moment.
LAST_BREATH = 1.0


@pytest.fixture(autouse=True)
def no_task_left_behind(request: pytest.FixtureRequest) -> None:
    """Fail a test that leaves asyncio tasks behind; set up first, so it looks last."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_tasks_ended")


@pytest.fixture
async def _tasks_ended() -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if not left:
        return
    _, left = await asyncio.wait(left, timeout=LAST_BREATH)
    for task in left:
        task.cancel()
    if left:
        names = sorted(f"{task.get_name()}: {task.get_coro()}" for task in left)
        pytest.fail("tasks left behind:\n" + "\n".join(names), pytrace=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres | PostgresUnavailableError]:
    """Start a server once per test process; a value in place of a skip, to be told to each test."""
    try:
        with running_postgres() as server:
            yield server
    except PostgresUnavailableError as unavailable:
        yield unavailable


@pytest.fixture
def postgres_url(postgres: Postgres | PostgresUnavailableError) -> Iterator[str]:
    """Give the URL of a fresh, empty database."""
    if isinstance(postgres, PostgresUnavailableError):
        missing("postgres", str(postgres))
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)
