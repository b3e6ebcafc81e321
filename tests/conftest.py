"""Fixtures that every area may use. What belongs to one area stands in tests/<area>/conftest.py."""

import asyncio
import faulthandler
import gc
import inspect
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kit.postgres import Postgres, PostgresUnavailableError, running_postgres
from tests.kit.require import missing

STDERR = pytest.StashKey[int]()
# How long a task that is already ending may take: a closed gRPC channel needs a moment.
LAST_BREATH = 1.0
# pytest-timeout rings once for a test. What hangs after that, in a fixture that cleans up, is shown
# with all its stacks, and the process ends: a failed run is better than one that never ends.
CLEAN_UP_LIMIT = 120.0


def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Bound the clean-up of a test."""
    stderr = item.config.stash[STDERR]
    faulthandler.dump_traceback_later(CLEAN_UP_LIMIT, exit=True, file=stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much the enumerations of tests/hub covered."""
    counted = [dict(report.user_properties) for report in terminalreporter.getreports("passed")]
    explored = [it for it in counted if "interleavings" in it]
    if explored:
        orders, states = (sum(it[what] for it in explored) for what in ("interleavings", "states"))
        terminalreporter.write_line(
            f"hub: {orders:,} orders of {len(explored)} histories, {states:,} states"
        )


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
    if not left:
        return
    for task in left:
        task.cancel()
    _, stubborn = await asyncio.wait(left, timeout=LAST_BREATH)
    for task in stubborn:
        # Closing the loop would wait for it, and for ever.
        asyncio._unregister_task(task)
    names = [
        f"{task.get_name()}: {task.get_coro()}" + (" (ignores cancel)" if task in stubborn else "")
        for task in left
    ]
    pytest.fail("tasks left behind:\n" + "\n".join(sorted(names)), pytrace=False)


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Hold the cyclic collector, so that a test sees what waits for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


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
