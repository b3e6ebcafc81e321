"""How workers get work: slots, hints, polls, drain."""

import asyncio

from chatd_server.domain.chat import Status
from chatd_server.observe import spans
from chatd_server.worker.settings import WorkerSettings
from tests.kit.script import Gate, calls, text
from tests.kit.world import World


async def test_a_hint_starts_a_chat_without_time_passing(world: World) -> None:
    """The poll is only the fallback."""
    start = world.clock.now()
    world.model.says(text("hello"))
    chat = await world.chat("hi")
    await chat.ended()
    assert world.clock.now() == start


async def test_a_lost_hint_costs_at_most_one_poll(world: World) -> None:
    """Work without a hint is found after a second."""
    await world.clock.sleeping("poll")
    world.process.goes_deaf()
    world.model.says(text("hello"))
    chat = await world.chat("hi")
    await world.clock.advance(0.9)
    assert chat.state.status is Status.PENDING
    await world.clock.advance(0.1)
    await chat.ended()


async def test_a_gap_in_the_hints_is_followed_by_a_look_at_once(world: World) -> None:
    """The connection is back after a loss: no poll and no heartbeat has to pass."""
    start = world.clock.now()
    gate = Gate()
    world.model.says(text("half", gate))
    running = await world.chat("hi")
    await gate.reached()
    world.process.goes_deaf()
    world.model.says(text("hello"))
    pending = await world.chat("hi")
    await running.interrupt()
    world.wake.tell_gap()
    await pending.ended()
    await running.until(Status.WAITING)
    assert world.clock.now() == start


async def test_no_more_runs_than_slots(world: World) -> None:
    """The third chat waits as pending until one of two slots is free."""
    await world.process.drain()
    gates = [Gate(), Gate()]
    for gate in gates:
        world.model.says(text("a", gate))
    world.model.says(text("b"))
    chats = [await world.chat("hi") for _ in range(3)]
    process = world.start("two", WorkerSettings(slots_max=2))
    for gate in gates:
        await gate.reached()
    await world.clock.advance(5)
    assert process.worker.running == 2
    assert sorted(chat.state.status for chat in chats) == ["pending", "running", "running"]
    for gate in gates:
        gate.open()
    for chat in chats:
        await chat.until(Status.WAITING)


async def test_the_end_of_a_run_looks_for_no_work_while_slots_are_free(world: World) -> None:
    """Work comes with hints; only a full worker has to check."""
    world.model.says(text("hello"))
    chat = await world.chat("hi")
    await world.clock.sleeping("poll")
    looks = world.process.cable.idle["acquire"]
    await chat.ended()
    await world.until(spans.RunFinished)
    await world.clock.advance(0.5)
    assert world.process.cable.idle["acquire"] == looks


async def test_chats_are_acquired_in_batches(world: World) -> None:
    """Ten chats with a batch of four are three statements, and one that finds the end."""
    await world.process.drain()
    gate = Gate()
    for _ in range(10):
        world.model.says(text("a", gate))
    chats = [await world.chat("hi") for _ in range(10)]
    process = world.start("two", WorkerSettings(acquire_batch_max=4))
    await world.until(spans.RunStarted, times=10)
    assert process.cable.idle["acquire"] == 3
    gate.open()
    for chat in chats:
        await chat.until(Status.WAITING)


async def test_one_heartbeat_for_all_chats(world: World) -> None:
    """One statement every ten seconds, and none while nothing runs."""
    await world.clock.sleeping("heartbeat")
    await world.clock.advance(25)
    assert world.process.cable.idle["heartbeat"] == 0
    gate = Gate()
    chats = []
    for _ in range(3):
        world.model.says(text("a", gate))
        chats.append(await world.chat("hi"))
    await world.until(spans.RunStarted, times=3)
    await world.clock.advance(60)
    assert world.process.cable.idle["heartbeat"] == 6
    assert all(chat.state.status is Status.RUNNING for chat in chats)
    gate.open()
    for chat in chats:
        await chat.until(Status.WAITING)


async def test_an_idle_worker_only_polls(world: World) -> None:
    """A minute costs sixty checks for work and sixty for what is due next."""
    world.model.says(text("hello"))
    chat = await world.chat("hi")
    await chat.ended()
    await world.until(spans.RunFinished)
    await world.clock.advance(0)
    before = dict(world.process.cable.idle)
    await world.clock.advance(60)
    spent = {name: n - before.get(name, 0) for name, n in world.process.cable.idle.items()}
    assert spent == {"acquire": 60, "next_due": 60}


async def test_drain_lets_a_run_finish(world: World) -> None:
    """Nothing new is acquired, and running turns end by themselves within the time."""
    gate = Gate()
    world.model.says(text("a", gate, "b"))
    chat = await world.chat("hi")
    await gate.reached()
    world.process.worker.drain()
    late = await world.chat("late")
    await world.clock.advance(19)
    assert late.state.status is Status.PENDING
    gate.open()
    await chat.until(Status.WAITING)
    await world.process.task
    assert await chat.history_texts() == ["hi", "ab"]
    assert late.state.status is Status.PENDING


async def test_drain_keeps_the_leases_alive(world: World) -> None:
    """Other workers do not take the chat during a long drain."""
    await world.process.drain()
    gate = Gate()
    world.model.says(text("a", gate, "b"))
    chat = await world.chat("hi")
    process = world.start("two", WorkerSettings(drain_seconds=100))
    await gate.reached()
    process.worker.drain()
    await world.clock.sleeping("drain")
    other = world.start("three")
    await world.clock.advance(90)
    assert other.worker.running == 0
    gate.open()
    await chat.until(Status.WAITING)
    await process.task


async def test_a_cancelled_worker_gives_its_chats_back(world: World) -> None:
    """Without a drain, too, nothing is left running."""
    gate = Gate()
    world.model.says(text("a", gate))
    chat = await world.chat("hi")
    await gate.reached()
    world.process.task.cancel()
    await chat.until(Status.PENDING)
    await world.until(spans.RunFinished)


async def test_a_worker_cancelled_while_it_takes_chats_gives_them_back(world: World) -> None:
    """They were leased before the response came, and need not wait for the lease to expire."""
    gate = world.process.cable.acquired = Gate()
    world.model.says(text("a", Gate()))
    chat = await world.chat("hi")
    await gate.reached()
    assert chat.state.status is Status.RUNNING
    world.process.task.cancel()
    gate.open()
    await chat.until(Status.PENDING)


async def test_a_database_that_is_gone_ends_the_run_and_the_rescue_goes_on(world: World) -> None:
    """Nothing can be written, so the lease expires, and the turn continues from its last commit."""
    gate = Gate()
    world.tool("shell")
    world.model.says(calls("shell"))
    world.model.says(text("lost", gate))
    chat = await world.chat("hi")
    await gate.reached()
    world.process.cable.cut()
    gate.open()
    await world.until(spans.DatabaseFailed, doing="run")
    await world.until(spans.RunFinished)
    await world.clock.advance(3)
    assert world.observer.noted(spans.DatabaseFailed, doing="acquire")
    world.process.cable.join()
    world.model.says(text("found"))
    await world.clock.advance(35)
    await chat.until(Status.WAITING)
    assert [line for line in await chat.history() if "text" in line] == [
        "  text 'hi'",
        "  text 'found'",
    ]
    assert world.observer.noted(spans.RunFailed) == []


async def test_a_defect_of_the_worker_is_not_swallowed(world: World) -> None:
    """An error that is not the database's ends the worker visibly, and releases its chats."""

    class BrokenError(Exception):
        pass

    gate = Gate()
    world.model.says(text("a", gate))
    chat = await world.chat("hi")
    await gate.reached()
    world.process.cable.breaks["next_due"] = BrokenError()
    await world.clock.advance_to("rescue")
    process = world.processes.pop()
    (failed,) = (await _error_of(process.task)).exceptions
    assert isinstance(failed, BrokenError)
    await chat.until(Status.PENDING)


async def _error_of(task: asyncio.Task[None]) -> ExceptionGroup[Exception]:
    await asyncio.wait([task])
    error = task.exception()
    assert isinstance(error, ExceptionGroup)
    return error
