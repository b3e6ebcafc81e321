"""A worker dies: what another worker finds, and what it does."""

from chatd_server.domain.chat import Status, StopReason
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.message import ToolErrorKind, ToolResult
from chatd_server.observe import spans
from chatd_server.worker.settings import WorkerSettings
from tests.kit.script import Gate, calls, does, text
from tests.kit.world import Chat, World

LEASE_SECONDS = WorkerSettings().lease_seconds


async def results(chat: Chat) -> list[ToolResult]:
    """Return all results of the history."""
    return [result for message in await chat.messages() for result in message.results]


async def rescued(world: World) -> None:
    """Crash the worker and let another one find its chats."""
    await world.process.crash()
    world.start("two")
    await world.clock.sleeping("rescue")
    await world.clock.advance(LEASE_SECONDS + 5)


async def test_a_crash_during_a_tool_leaves_its_outcome_unknown(world: World) -> None:
    """At most once: the call does not run again, and the model learns of it."""
    shell = world.tool("shell")
    gate = shell.hangs()
    world.model.says(text("On it."), calls("shell"))
    chat = await world.chat("go")
    await gate.reached()
    world.model.says(text("I see."))
    await rescued(world)
    await chat.until(Status.WAITING)
    assert [it.error for it in await results(chat)] == [ToolErrorKind.OUTCOME_UNKNOWN]
    assert len(shell.runs) == 1
    assert await chat.history_texts() == ["go", "On it.", "", "I see."]


async def test_an_idempotent_tool_runs_again_after_a_crash(world: World) -> None:
    """The tool is idempotent."""
    lookup = world.tool("lookup", idempotent=True)
    gate = lookup.hangs()
    world.model.says(calls("lookup"))
    chat = await world.chat("go")
    await gate.reached()
    world.model.says(text("I see."))
    await rescued(world)
    await chat.until(Status.WAITING)
    assert [(it.output, it.error) for it in await results(chat)] == [("done", None)]
    assert len(lookup.runs) == 2


async def test_a_recorded_outcome_is_used_after_a_crash(world: World) -> None:
    """A finished tool does not run again, and its result is the one that was shown."""
    quick = world.tool("quick")
    quick.gives("42")
    gate = world.tool("shell").hangs()
    world.model.says(calls("quick"), calls("shell"))
    chat = await world.chat("go")
    await world.until(spans.ToolFinished, tool="quick")
    await gate.reached()
    finished_at = world.clock.now()
    quick.gives("43")
    world.model.says(text("I see."))
    await rescued(world)
    await chat.until(Status.WAITING)
    first, second = await results(chat)
    assert (first.output, first.created_at) == ("42", finished_at)
    assert second.error is ToolErrorKind.OUTCOME_UNKNOWN
    assert len(quick.runs) == 1


async def test_a_crash_before_a_tool_started_asks_the_model_again(world: World) -> None:
    """The answer and the start of its tools are one commit: nothing has happened yet."""
    shell = world.tool("shell")
    world.model.says(text("lost"), calls("shell"))
    world.process.cable.cut_before = "start_calls"
    chat = await world.chat("go")
    await world.until(spans.DatabaseFailed, doing="run")
    world.model.says(text("found"), calls("shell"))
    world.model.says(text("Done."))
    await rescued(world)
    await chat.until(Status.WAITING)
    assert await chat.history_texts() == ["go", "found", "", "Done."]
    assert [it.error for it in await results(chat)] == [None]
    assert len(shell.runs) == 1


async def test_a_crash_after_the_turn_was_interrupted_is_finished_by_the_rescuer(
    world: World,
) -> None:
    """The step in memory is lost, but the chat does not stay in interrupting."""
    gate = Gate()
    world.model.says(text("half", gate))
    chat = await world.chat("go")
    await gate.reached()
    world.process.goes_deaf()
    await chat.interrupt()
    await rescued(world)
    state = await chat.until(Status.WAITING)
    assert state.stop_reason is StopReason.INTERRUPTED
    assert await chat.history_texts() == ["go"]


async def test_a_tool_that_is_gone_after_a_restart_is_an_invalid_call(world: World) -> None:
    """The model gets the names of the available tools."""
    world.tool("shell")
    world.tool("other")
    world.model.says(calls("shell"), does(world.process.leaves_at_once))
    chat = await world.chat("go")
    await world.process.task
    world.tools.remove("shell")
    world.model.says(text("Done."))
    world.start("two")
    await chat.until(Status.WAITING)
    (result,) = await results(chat)
    assert result.error is ToolErrorKind.INVALID_CALL
    assert result.output.endswith("available tools: other")


async def test_too_many_rescues_in_a_row_end_the_turn(world: World) -> None:
    """A chat that crashes its workers must not do so for ever."""
    gates = [Gate() for _ in range(RESCUES_MAX + 1)]
    for gate in gates:
        world.model.says(text("boom", gate))
    chat = await world.chat("go")
    for gate in gates:
        await gate.reached()
        await rescued(world)
    state = await chat.until(Status.ERROR)
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.WORKER_LOST


async def test_more_dead_chats_than_one_batch_are_all_rescued_at_once(world: World) -> None:
    """After a full batch the next check follows at once."""
    gates = [Gate() for _ in range(3)]
    chats = []
    for gate in gates:
        world.model.says(text("old", gate))
        chats.append(await world.chat("go"))
        await gate.reached()
    await world.process.crash()
    await world.clock.advance(LEASE_SECONDS + 1)
    for _ in chats:
        world.model.says(text("new"))
    world.start("two", WorkerSettings(rescue_batch_max=1, poll_seconds=1000))
    for chat in chats:
        await chat.until(Status.WAITING)
        assert await chat.history_texts() == ["go", "new"]
