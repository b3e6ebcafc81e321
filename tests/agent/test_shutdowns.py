"""A worker that shuts down: what it releases, and what the next worker finds."""

from pathlib import Path

from chatd_server.domain.chat import Status, StopReason
from chatd_server.observe import spans
from tests.kit.golden import assert_golden
from tests.kit.script import Gate, calls, does, text
from tests.kit.world import World

GOLDEN = Path(__file__).parent / "golden"


async def test_shutdown_during_a_tool_gives_the_chat_back(world: World) -> None:
    """Pending, never waiting: finished outcomes are journalled, and another worker continues."""
    quick = world.tool("quick")
    quick.gives("42")
    shell = world.tool("shell")
    shell.hangs()
    lookup = world.tool("lookup", idempotent=True)
    lookup.hangs()
    world.model.says(calls("quick"), calls("shell"), calls("lookup"))
    chat = await world.chat("go")
    await world.until(spans.ToolFinished, tool="quick")
    world.process.worker.drain()
    await world.clock.advance_to("drain")
    await world.process.task
    assert chat.state.status is Status.PENDING
    assert chat.state.last_error is None
    world.model.says(text("Done."))
    world.start("two")
    await chat.ended()
    assert_golden(await chat.transcript(), GOLDEN / "shutdown_during_a_tool.txt")
    assert [len(tool.runs) for tool in (quick, shell, lookup)] == [1, 1, 2]


async def test_shutdown_in_the_middle_of_text_drops_the_attempt(world: World) -> None:
    """The next worker calls the model again; the text so far is void."""
    gate = Gate()
    world.model.says(text("half", gate))
    chat = await world.chat("go")
    await gate.reached()
    world.process.worker.drain()
    await world.clock.advance_to("drain")
    await world.process.task
    assert chat.state.status is Status.PENDING
    assert world.process.live.lines[-1] == "abandoned"
    world.model.says(text("whole"))
    world.start("two")
    await chat.ended()
    assert await chat.history_texts() == ["go", "whole"]


async def test_a_leaving_worker_that_finds_an_interrupt_keeps_the_step(world: World) -> None:
    """The user's stop came first in the database, so it is honoured."""
    world.process.goes_deaf()
    gate = Gate()
    world.model.says(text("On ", gate, "it"))
    chat = await world.chat("go")
    await world.clock.advance_to("poll")
    await gate.reached()
    await chat.interrupt()
    world.process.worker.drain()
    await world.clock.sleeping("drain")
    world.process.worker._stop_runs()  # directly: a drain would let a heartbeat run first
    await world.process.task
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert (await chat.history())[-1] == "  text 'On '"


async def test_a_shutdown_just_before_the_tools_lets_another_worker_run_them(world: World) -> None:
    """The answer is kept; a call that never began is not marked as started."""
    shell = world.tool("shell")
    process = world.process
    world.model.says(calls("shell"), does(process.leaves_at_once))
    chat = await world.chat("go")
    await process.task
    assert chat.state.status is Status.PENDING
    assert process.cable.calls[-1] == "CommitAnswer + Release"
    assert "abandoned" not in process.live.lines
    world.model.says(text("Done."))
    world.start("two")
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [result.error for result in tool.results] == [None]
    assert len(shell.runs) == 1


async def test_a_shutdown_just_before_the_end_of_a_turn_keeps_the_answer(world: World) -> None:
    """The next worker only ends the turn."""
    process = world.process
    world.model.says(text("Done."), does(process.leaves_at_once))
    chat = await world.chat("go")
    await process.task
    assert chat.state.status is Status.PENDING
    world.start("two")
    await chat.ended()
    assert await chat.history_texts() == ["go", "Done."]


async def test_a_leaving_worker_whose_answer_is_interrupted_keeps_it(world: World) -> None:
    """The chain with the answer is refused, so it is saved as the partial step."""
    process = world.process
    process.goes_deaf()
    world.model.says(text("On it."), calls("shell"), does(process.leaves_at_once))

    async def interrupt() -> None:
        await chat.interrupt()

    process.cable.meanwhile["Release", 1] = interrupt
    chat = await world.chat("go")
    await world.clock.advance_to("poll")
    await process.task
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert (await chat.history_texts())[:2] == ["go", "On it."]
    assert "abandoned" not in process.live.lines


async def test_a_shutdown_at_the_end_of_the_last_tool_keeps_its_outcome(world: World) -> None:
    """Its results are no longer committed, so it is journalled like any other."""
    shell = world.tool("shell")
    process = world.process
    shell.then = process.leaves_at_once
    world.model.says(calls("shell"))
    chat = await world.chat("go")
    await process.task
    assert chat.state.status is Status.PENDING
    assert process.cable.calls[-2:] == ["finish_call", "Release"]
    world.model.says(text("Done."))
    world.start("two")
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [(result.output, result.error) for result in tool.results] == [("done", None)]
    assert len(shell.runs) == 1


async def test_a_shutdown_while_another_outcome_is_written_loses_neither(world: World) -> None:
    """The batch has not ended, so the last outcome is journalled too."""
    quick, shell = world.tool("quick"), world.tool("shell")
    quick.gives("42")
    process = world.process

    async def leave() -> None:
        process.leaves_at_once()

    process.cable.afterwards["finish_call", 1] = leave
    world.model.says(calls("quick"), calls("shell"))
    chat = await world.chat("go")
    await process.task
    assert process.cable.calls[-3:] == ["finish_call", "finish_call", "Release"]
    world.model.says(text("Done."))
    world.start("two")
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [(it.output, it.error) for it in tool.results] == [("42", None), ("done", None)]
    assert [len(it.runs) for it in (quick, shell)] == [1, 1]
