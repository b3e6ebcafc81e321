"""Work whose row another transaction holds during the check: it starts as soon as it is free."""

import asyncpg
import pytest

from chatd_server.domain.chat import Status
from chatd_server.worker.settings import WorkerSettings
from tests.kit.script import text
from tests.kit.world import World
from tests.store.outages import locked

POLL_SECONDS = WorkerSettings().poll_seconds


async def test_work_that_is_held_for_a_moment_starts_before_the_poll(
    shared: World, postgres_url: str
) -> None:
    """Another request holds the chat while the worker checks: it does not wait for a poll."""
    shared.model.says(text("hello"))
    chat = await shared.chat("hi")
    async with locked(postgres_url, chat.id):
        shared.start()
        pause = await shared.clock.sleeping("poll")
        assert chat.state.status is Status.PENDING
    await shared.clock.advance(pause)
    await chat.ended()
    assert pause < POLL_SECONDS / 10


async def test_work_that_is_held_for_long_is_looked_at_less_and_less(
    shared: World, postgres_url: str
) -> None:
    """A foreign transaction of ten seconds costs a dozen checks more than polls, no busy loop."""
    shared.model.says(text("hello"))
    chat = await shared.chat("hi")
    async with locked(postgres_url, chat.id):
        process = shared.start()
        await shared.clock.sleeping("poll")
        await shared.clock.advance(10)
        assert 10 < process.cable.idle["acquire"] <= 10 / POLL_SECONDS + 12
    await shared.clock.advance(POLL_SECONDS)
    await chat.ended()


async def test_work_that_is_held_for_a_moment_is_not_late_because_of_other_work_held_for_long(
    shared: World, postgres_url: str
) -> None:
    """The pause depends on the newest row that was skipped."""
    shared.model.says(text("first"))
    shared.model.says(text("second"))
    old = await shared.chat("old")
    async with locked(postgres_url, old.id):
        process = shared.start()
        await shared.clock.sleeping("poll")
        await shared.clock.advance(10)
        process.goes_deaf()
        new = await shared.chat("new")
        async with locked(postgres_url, new.id):
            process.worker.hinted(new.id, 1, Status.PENDING)
            await shared.clock.advance(0)
            pause = await shared.clock.sleeping("poll")
        await shared.clock.advance(pause)
        await new.ended()
        assert pause < POLL_SECONDS / 10
        assert old.state.status is Status.PENDING
    await shared.clock.advance(POLL_SECONDS)
    await old.ended()


async def test_a_worker_that_lost_a_race_looks_once_more_and_then_polls(
    shared: World, postgres_url: str
) -> None:
    """A row that another server is acquiring is skipped; then it is no longer available."""
    chat = await shared.chat("hi")
    winner = await asyncpg.connect(postgres_url)
    taking = winner.transaction()
    await taking.start()
    await winner.execute(
        "UPDATE chats SET worker_id = 'other', lease_expires_at = 9e15::bigint WHERE uuid = $1",
        chat.id,
    )
    process = shared.start()
    pause = await shared.clock.sleeping("poll")
    assert pause < POLL_SECONDS / 10
    await taking.commit()
    await winner.close()
    await shared.clock.advance(pause)
    assert await shared.clock.sleeping("poll") == pytest.approx(POLL_SECONDS)
    assert process.cable.idle["acquire"] == 2
