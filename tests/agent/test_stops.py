"""The result of a stop, by its cause."""

from pathlib import Path

import pytest

from chatd_server.domain.chat import Status, StopReason
from chatd_server.domain.command import BusyBehavior, DeleteChat
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.limits import TOOL_CANCEL_SECONDS_MAX
from chatd_server.domain.message import ToolErrorKind
from chatd_server.observe import spans
from chatd_server.store.sqlite.store import SqliteStore
from tests.kit.golden import assert_golden
from tests.kit.script import Gate, Spoken, calls, searches, text, thinks
from tests.kit.world import Chat, World

GOLDEN = Path(__file__).parent / "golden"


async def golden(chat: Chat, name: str) -> None:
    """Compare the chat's log with its file."""
    assert_golden(await chat.transcript(), GOLDEN / f"{name}.txt")


async def test_interrupt_during_a_tool_keeps_the_step(world: World) -> None:
    """A user's interrupt loses nothing: text, finished results, and errors for cancelled calls."""
    world.tool("quick").gives("42")
    world.tool("shell").hangs()
    world.model.says(text("On it."), calls("quick"), calls("shell", '{"cmd":"ls"}'))
    chat = await world.chat("list the files")
    await world.until(spans.ToolFinished, tool="quick")
    await chat.interrupt()
    await chat.ended()
    await golden(chat, "interrupt_during_a_tool")
    await world.until(spans.RunFinished)
    assert "abandoned" not in world.process.live.lines


async def test_interrupt_keeps_the_answers_that_calls_got_without_a_run(world: World) -> None:
    """The result shown for a call that cannot be executed is saved unchanged."""
    gate = world.tool("shell").hangs()
    world.model.says(calls("gone"), calls("shell"))
    chat = await world.chat("go")
    await gate.reached()
    await world.clock.advance(1)
    await chat.interrupt()
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert tool.results[0] == world.process.live.writers[-1].results[0]
    assert [it.error for it in tool.results] == [
        ToolErrorKind.INVALID_CALL,
        ToolErrorKind.INTERRUPTED,
    ]


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("text", lambda gate: [thinks("hm"), text("On ", gate, "it")]),
        ("reasoning", lambda gate: [thinks("h", gate, "m")]),
        ("arguments", lambda gate: [text("Ok."), calls("shell", '{"cmd":', gate, '"ls"}')]),
        ("client_call", lambda gate: [text("Ok."), calls("open"), text("and", gate)]),
        ("search", lambda gate: [text("Ok."), searches("cats", gate)]),
    ],
)
async def test_interrupt_in_the_middle_of_an_answer_keeps_what_came(
    world: World, name: str, spoken: object
) -> None:
    """Text, reasoning and calls are saved as shown; open calls get a result."""
    gate = Gate()
    shell = world.tool("shell")
    assert callable(spoken)
    answer: list[Spoken] = spoken(gate)
    world.model.says(*answer)
    chat = await world.chat("go", client_tools=["open"])
    await gate.reached()
    await chat.interrupt()
    await chat.ended()
    await golden(chat, f"interrupt_in_{name}")
    assert shell.runs == []
    await world.until(spans.RunFinished)
    assert "abandoned" not in world.process.live.lines


async def test_interrupt_before_the_first_part_leaves_no_message(world: World) -> None:
    """There is nothing to keep, and the attempt is void."""
    gate = Gate()
    world.model.says(gate, text("late"))
    chat = await world.chat("go")
    await gate.reached()
    await chat.interrupt()
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert await chat.history() == ["user", "  text 'go'"]
    await world.until(spans.RunFinished)
    assert world.process.live.lines[-1] == "abandoned"


async def test_interrupt_promotes_the_head_of_the_queue(world: World) -> None:
    """A message that interrupts is next, after the saved step."""
    gate = Gate()
    world.model.says(text("On ", gate, "it"))
    world.model.says(text("Other."))
    chat = await world.chat("one")
    await gate.reached()
    await chat.send("two", BusyBehavior.INTERRUPT)
    await chat.ended()
    await golden(chat, "interrupt_by_a_message")


async def test_interrupt_while_waiting_for_a_retry(world: World) -> None:
    """The wait ends at once; nothing of the failed attempt is kept."""
    world.model.fails(ErrorKind.OVERLOADED, text("half"))
    chat = await world.chat("go")
    assert await world.clock.sleeping("retry") == 1.0
    await chat.interrupt()
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert await chat.history() == ["user", "  text 'go'"]


async def test_a_tool_that_ignores_its_cancel_is_abandoned(world: World) -> None:
    """After five seconds its outcome is unknown, and it is recorded as abandoned."""
    gate = world.tool("shell").hangs(stubborn=True)
    world.model.says(calls("shell"))
    chat = await world.chat("go")
    await gate.reached()
    await chat.interrupt()
    assert await world.clock.sleeping("tool.cancel") == TOOL_CANCEL_SECONDS_MAX
    await world.clock.advance(TOOL_CANCEL_SECONDS_MAX)
    await world.until(spans.ToolAbandoned, tool="shell")
    await chat.ended()
    await golden(chat, "abandoned_tool")
    assert len(world.process.env.abandoned) == 1
    gate.open()
    (left,) = world.process.env.abandoned
    await left
    assert not world.process.env.abandoned


async def test_a_tool_that_ends_while_it_is_cancelled_keeps_its_result(world: World) -> None:
    """The real result takes precedence over the stop."""
    gate = world.tool("shell").hangs(stubborn=True)
    world.model.says(calls("shell"))
    chat = await world.chat("go")
    await gate.reached()
    await chat.interrupt()
    await world.clock.sleeping("tool.cancel")
    gate.open()
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [(it.output, it.error) for it in tool.results] == [("done", None)]


async def test_a_hint_of_another_process_is_looked_up_at_once(world: World) -> None:
    """It carries no data: one heartbeat for that chat finds the interrupt."""
    world.process.hears_commits = False
    gate = Gate()
    world.model.says(text("On ", gate, "it"))
    chat = await world.chat("go")
    await gate.reached()
    beats = world.process.cable.idle["heartbeat"]
    await chat.interrupt()
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert world.process.cable.idle["heartbeat"] == beats + 1


async def test_a_lost_interrupt_hint_is_found_at_the_next_beat(world: World) -> None:
    """Hints may be lost; the heartbeat returns the status."""
    world.process.goes_deaf()
    gate = Gate()
    world.model.says(text("On ", gate, "it"))
    chat = await world.chat("go")
    await world.clock.advance_to("poll")
    await gate.reached()
    await chat.interrupt()
    assert chat.state.status is Status.INTERRUPTING
    await world.clock.advance_to("heartbeat")
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert (await chat.history())[-1] == "  text 'On '"


async def test_an_interrupt_whose_hint_comes_late_is_found_by_the_commit(world: World) -> None:
    """The answer is refused and saved as the partial step, and its tools do not run."""
    world.process.goes_deaf()
    gate = Gate()
    shell = world.tool("shell")
    world.model.says(text("Ok."), calls("shell"), gate)
    chat = await world.chat("go")
    await world.clock.advance_to("poll")
    await gate.reached()
    await chat.interrupt()
    gate.open()
    await chat.ended()
    await golden(chat, "interrupt_found_by_a_commit")
    assert shell.runs == []


async def test_a_lost_lease_writes_nothing(world: World) -> None:
    """Another worker has the chat: the first one ends without writing, whatever it had."""
    gate, second = Gate(), Gate()
    shell = world.tool("shell")
    world.model.says(text("old"), calls("shell"), gate)
    chat = await world.chat("go")
    await gate.reached()
    old = world.process
    old.cable.cut()  # no heartbeat gets through
    await world.clock.advance(31)
    world.model.says(text("new", second))
    world.start("two")
    await second.reached()
    old.cable.join()
    before = chat.state.revision
    gate.open()
    await world.until(spans.RunFinished, chat=chat.id, epoch=1)
    assert chat.state.revision == before
    second.open()
    await chat.ended()
    assert await chat.history_texts() == ["go", "new"]
    assert shell.runs == []
    assert world.observer.noted(spans.RunFailed) == []


async def test_a_commit_without_the_lease_is_refused(world: World) -> None:
    """A worker without a hint finds out when it writes."""
    gate = Gate()
    world.model.says(text("old"), gate)
    chat = await world.chat("go")
    await gate.reached()
    assert isinstance(world.store, SqliteStore)
    await world.store.write("UPDATE chats SET epoch = epoch + 1")
    gate.open()
    await world.until(spans.LeaseLost, chat=chat.id)
    assert await chat.history_texts() == ["go"]
    assert world.process.live.lines[-1] == "abandoned"


async def test_an_edit_takes_the_chat_away_from_its_run(world: World) -> None:
    """The old step is dropped, and the new message gets its turn."""
    gate = world.tool("shell").hangs()
    world.model.says(text("old"), calls("shell"))
    world.model.says(text("new"))
    chat = await world.chat("one")
    await gate.reached()
    await chat.edit(1, "two")
    await chat.ended()
    assert await chat.history_texts() == ["two", "new"]
    await world.until(spans.RunFinished, times=2)
    assert world.observer.noted(spans.RunFailed) == []


async def test_a_deleted_chat_ends_its_run(world: World) -> None:
    """Nothing more is written, and no failure is reported."""
    world.process.goes_deaf()
    gate = Gate()
    world.model.says(text("old", gate))
    chat = await world.chat("go")
    await world.clock.advance_to("poll")
    await gate.reached()
    await chat.apply(DeleteChat(command_id=chat.command()))
    gate.open()
    await world.until(spans.LeaseLost, chat=chat.id)
    await world.until(spans.RunFinished)
    assert world.observer.noted(spans.RunFailed) == []


async def test_a_defect_in_an_interrupted_run_leaves_the_interrupt(world: World) -> None:
    """The user's stop came first in the database: the chat is waiting, not in error."""
    world.process.goes_deaf()
    gate = Gate()
    world.model.plays(gate, RuntimeError("a defect"))
    chat = await world.chat("go")
    await world.clock.advance_to("poll")
    await gate.reached()
    await chat.interrupt()
    gate.open()
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    await world.until(spans.RunFailed, exception="RuntimeError")


async def test_a_failure_that_cannot_be_written_is_noted_too(world: World) -> None:
    """The run ends, the lease expires, and another run continues the turn."""
    world.process.cable.breaks["Fail"] = OSError("a defect")
    world.model.plays(RuntimeError("a defect"))
    chat = await world.chat("go")
    await world.until(spans.RunFailed, exception="RuntimeError")
    await world.until(spans.RunFailed, exception="OSError")
    await world.until(spans.RunFinished)
    world.model.says(text("whole"))
    await world.clock.advance(36)
    await chat.until(Status.WAITING)
    assert await chat.history_texts() == ["go", "whole"]


async def test_an_interrupt_before_the_commit_of_an_answer_runs_no_tool(world: World) -> None:
    """The whole chain is refused: the answer is kept, and its calls get an interrupted result."""
    shell = world.tool("shell")
    world.model.says(calls("shell"))
    process = world.process

    async def interrupt() -> None:
        await chat.interrupt()

    process.cable.meanwhile["start_calls", 1] = interrupt
    chat = await world.chat("go")
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [result.error for result in tool.results] == [ToolErrorKind.INTERRUPTED]
    assert shell.runs == []


async def test_an_interrupt_between_journal_and_tools_runs_none(world: World) -> None:
    """They get an interrupted result, so their outcome is never in doubt."""
    shell = world.tool("shell")
    world.model.says(calls("shell"))
    process = world.process

    async def interrupt() -> None:
        await chat.interrupt()

    process.cable.afterwards["start_calls", 1] = interrupt
    chat = await world.chat("go")
    await chat.ended()
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [result.error for result in tool.results] == [ToolErrorKind.INTERRUPTED]
    assert shell.runs == []


async def test_an_interrupt_before_the_commit_of_results_keeps_them(world: World) -> None:
    """Including the last one, which is not in the journal."""
    world.tool("quick").gives("42")
    last = world.tool("last").hangs()
    world.tools._tools["last"].gives("43")
    world.model.says(calls("quick"), calls("last"))
    process = world.process

    async def interrupt() -> None:
        await chat.interrupt()

    process.cable.meanwhile["CommitResults", 1] = interrupt
    chat = await world.chat("go")
    await world.until(spans.ToolFinished, tool="quick")
    last.open()
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    (tool,) = [it for it in await chat.messages() if it.results]
    assert [(it.output, it.error) for it in tool.results] == [("42", None), ("43", None)]
    assert process.cable.calls.count("finish_call") == 1


async def test_an_edit_without_a_hint_refuses_the_commit(world: World) -> None:
    """The epoch in the database is enough: the old step is not written."""
    world.process.goes_deaf()
    gate = Gate()
    world.model.says(text("old", gate))
    world.model.says(text("new"))
    chat = await world.chat("one")
    await world.clock.advance_to("poll")
    await gate.reached()
    await chat.edit(1, "two")
    gate.open()
    await world.until(spans.LeaseLost, chat=chat.id)
    await world.clock.advance_to("poll")
    await chat.ended()
    assert await chat.history_texts() == ["two", "new"]
