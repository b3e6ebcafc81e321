"""A worker dies: another one takes over its chats at most one poll after the lease expired."""

import pytest

from chatd_server.domain.chat import Status
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.worker.settings import WorkerSettings
from tests.kit.script import Gate, calls, text
from tests.kit.world import Chat, World
from tests.store.outages import locked

SHORT = WorkerSettings(lease_seconds=1.0, heartbeat_seconds=0.5)


async def dies_with_a_chat(world: World, settings: WorkerSettings) -> Chat:
    """Let a second worker take a chat, after a hint, and die."""
    world.start("survivor")
    await world.clock.sleeping("poll")
    await world.clock.sleeping("rescue")
    world.process.goes_deaf()
    gate = Gate()
    world.model.says(text("lost", gate))
    dying = world.start("dying", settings)
    chat = await world.chat("go")
    await gate.reached()
    await dying.crash()
    world.model.says(text("found"))
    return chat


@pytest.mark.parametrize("settings", [SHORT, WorkerSettings()], ids=["short", "default"])
async def test_a_takeover_takes_at_most_the_lease_and_a_poll(
    either: World, settings: WorkerSettings
) -> None:
    """Even if the lease is much shorter than the survivor's own."""
    chat = await dies_with_a_chat(either, settings)
    await either.clock.advance(settings.lease_seconds + settings.poll_seconds)
    await chat.until(Status.WAITING)
    assert await chat.history_texts() == ["go", "found"]


async def test_a_takeover_begins_the_moment_the_lease_ends(either: World) -> None:
    """The expiry of the next lease is known, so no poll is needed either."""
    chat = await dies_with_a_chat(either, WorkerSettings())
    began = either.clock.now()
    await either.clock.advance(WorkerSettings().lease_seconds - 0.001)
    assert chat.state.status is Status.RUNNING
    await either.clock.advance(0.001)
    await chat.until(Status.WAITING)
    assert either.clock.now() - began == 30_000_000


async def test_an_expired_lease_whose_row_is_held_is_looked_at_again_at_once(
    shared: World, postgres_url: str
) -> None:
    """A message that arrives at that moment does not delay the takeover by a poll."""
    chat = await dies_with_a_chat(shared, SHORT)
    async with locked(postgres_url, chat.id):
        await shared.clock.advance(SHORT.lease_seconds)
        assert chat.state.status is Status.RUNNING
        pause = await shared.clock.sleeping("rescue")
    await shared.clock.advance(pause)
    await chat.until(Status.WAITING)
    assert pause < SHORT.poll_seconds / 10


async def test_a_deadline_that_passes_soon_after_a_look_is_noticed_within_a_poll(
    either: World,
) -> None:
    """A deadline that was set after the check is met in time."""
    process = either.start()
    await either.clock.sleeping("rescue")
    either.model.says(calls("ls"))
    either.model.says(text("late"))
    chat = await either.chat("go", client_tools=["ls"], action_timeout_seconds=1.0)
    await chat.until(Status.REQUIRES_ACTION)
    await either.clock.advance(1.0 + WorkerSettings().poll_seconds)
    await chat.until(Status.WAITING)
    await process.drain()


async def test_a_retry_of_a_worker_that_left_begins_the_moment_it_is_due(either: World) -> None:
    """The time is known, so no poll is needed."""
    either.model.fails(ErrorKind.OVERLOADED, retry_after_seconds=3.3)
    leaving = either.start("leaving")
    chat = await either.chat("go")
    await either.clock.sleeping("retry")
    began = either.clock.now()
    leaving.task.cancel()
    await chat.until(Status.PENDING)
    either.model.says(text("found"))
    either.start("staying")
    await either.clock.sleeping("rescue")
    due_in = await either.store.next_due()
    assert due_in is not None
    await either.clock.advance((due_in - began) / MICROSECONDS)
    await chat.until(Status.WAITING)
    assert either.clock.now() == due_in
