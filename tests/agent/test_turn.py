"""A turn from the user's message to its end, on the real store with a real worker."""

import asyncio
from pathlib import Path

import pytest

from chatd_server.domain.answer_parts import (
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
)
from chatd_server.domain.chat import Status, StopReason, TurnOptions
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.limits import PAUSES_IN_A_ROW_MAX, TOOL_RESULT_BYTES_MAX
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import FinishReason, ToolErrorKind, ToolResult, Usage
from chatd_server.observe import spans
from tests.kit.golden import assert_golden
from tests.kit.script import Gate, calls, searches, text, thinks
from tests.kit.world import Chat, World

GOLDEN = Path(__file__).parent / "golden"


async def golden(chat: Chat, name: str) -> None:
    """Compare the chat's log with its file."""
    assert_golden(await chat.transcript(), GOLDEN / f"{name}.txt")


async def results(chat: Chat) -> list[ToolResult]:
    """Return all results of the history."""
    return [result for message in await chat.messages() for result in message.results]


async def test_an_answer_ends_the_turn(world: World) -> None:
    """The user asks, the model streams and finishes, the chat is waiting."""
    world.model.says(thinks("hm"), text("Hel", "lo"))
    chat = await world.chat("hi")
    await chat.ended()
    await golden(chat, "answer")
    assert world.process.live.lines[1:] == [
        "0: reasoning 'hm'",
        "1: text 'Hel'",
        "1: text 'lo'",
    ]
    assert chat.state.usage_total.input_tokens == 10


async def test_tools_run_and_their_results_go_back_to_the_model(world: World) -> None:
    """Results are shown as they arrive and committed in call order."""
    slow = world.tool("slow").hangs()
    world.tool("quick").gives("42")
    world.model.says(text("On it."), calls("slow", '{"a":', "1}"), calls("quick"))
    world.model.says(text("Done."))
    chat = await world.chat("do both")
    await world.until(spans.ToolFinished, tool="quick")
    slow.open()
    await chat.ended()
    await golden(chat, "two_tools")
    shown = [line for line in world.process.live.lines if "ed" in line]
    assert shown == ["slow started", "quick started", "quick finished", "slow finished"]
    assert world.tools._tools["slow"].runs == ['{"a":1}']
    second = world.model.requests[1]
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]


async def test_the_vendors_id_of_an_answer_goes_back_to_its_model(world: World) -> None:
    """It is in the history, so that any worker can continue."""
    world.model.plays(
        Delta(0, PieceKind.TEXT, "hi"), Finished(FinishReason.END_TURN, Usage(), "resp_1")
    )
    world.model.says(text("again"))
    chat = await world.chat("go")
    await chat.ended()
    await chat.send("on")
    await chat.ended()
    assert [request.previous_response_id for request in world.model.requests] == ["", "resp_1"]


async def test_a_tool_knows_its_turn_and_when_it_was_called(world: World) -> None:
    """Its effects may depend on them."""
    tool = world.tool("look")
    world.model.says(calls("look"))
    world.model.says(text("done"))
    chat = await world.chat("go")
    await chat.ended()
    (context,) = tool.contexts
    question, asked = (await chat.messages())[:2]
    assert (context.chat_id, context.turn_id) == (chat.id, question.turn_id)
    assert (context.call_id, context.called_at) == (asked.calls[0].id, asked.calls[0].created_at)


async def test_between_two_waits_is_one_commit(world: World) -> None:
    """One commit holds the results of a wait and the start of the next; the last ends the turn."""
    world.tool("shell")
    world.model.says(calls("shell"))
    world.model.says(text("Done."))
    chat = await world.chat("go")
    await chat.ended()
    assert world.process.cable.calls == [
        "CommitAnswer + StartAttempt + start_calls",
        "CommitResults + StartAttempt",
        "CommitAnswer + FinishTurn",
    ]


async def test_a_batch_in_which_nothing_runs_is_not_a_wait(world: World) -> None:
    """Its results are committed with the answer that asks for them."""
    world.model.says(calls("gone"))
    world.model.says(text("Sorry."))
    chat = await world.chat("go")
    await chat.ended()
    assert world.process.cable.calls == [
        "CommitAnswer + StartAttempt + CommitResults + StartAttempt",
        "CommitAnswer + FinishTurn",
    ]
    assert [result.error for result in await results(chat)] == [ToolErrorKind.INVALID_CALL]
    assert "abandoned" not in world.process.live.lines


async def test_an_attempt_is_shown_once_its_chain_is_committed(world: World) -> None:
    """No live part is ahead of the database."""
    world.tool("shell")
    world.model.says(calls("shell"))
    world.model.says(text("Done."))
    shown: list[int] = []

    async def look() -> None:
        shown.append(len(world.process.live.writers))

    for number in (1, 2):
        world.process.cable.afterwards["StartAttempt", number] = look
    world.process.cable.acquired = taken = Gate()
    chat = await world.chat("go")
    await taken.reached()
    await look()
    taken.open()
    await chat.ended()
    assert shown == [0, 1, 2]
    assert len(world.process.live.writers) == 3


async def test_the_context_is_one_list_appended_in_place(world: World) -> None:
    """Every step passes on the same list, whose older messages are the same objects."""
    world.tool("shell")
    for _ in range(5):
        world.model.says(calls("shell"))
    world.model.says(text("Done."))
    chat = await world.chat("go")
    await chat.ended()
    assert len({id(context) for context in world.model.contexts}) == 1
    first, last = world.model.requests[0], world.model.requests[-1]
    assert last.messages[0] is first.messages[0]
    assert len(last.messages) == 11
    assert len({id(request.tools) for request in world.model.requests}) == 1


async def test_an_unknown_tool_is_answered_with_the_available_names(world: World) -> None:
    """The model gets the names of the available tools, and continues."""
    world.tool("shell")
    world.model.says(calls("rm", '{"all":true}'))
    world.model.says(text("Sorry."))
    chat = await world.chat("go", client_tools=["open"])
    await chat.ended()
    await golden(chat, "unknown_tool")


async def test_a_tool_that_raises_becomes_an_error_result(world: World) -> None:
    """The result names the tool, without the traceback or the exception's message."""
    world.tool("shell").error = ValueError("secret")
    world.tool("other")
    world.model.says(calls("shell"), calls("other"))
    world.model.says(text("Oh."))
    chat = await world.chat("go")
    await chat.ended()
    await golden(chat, "tool_raises")


async def test_a_long_result_is_cut_live_and_committed_alike(world: World) -> None:
    """The history has what a subscriber saw."""
    world.tool("shell").gives("é" * TOOL_RESULT_BYTES_MAX)
    world.model.says(calls("shell"))
    world.model.says(text("Long."))
    chat = await world.chat("go")
    await chat.ended()
    (committed,) = await results(chat)
    assert committed.truncated
    assert len(committed.output.encode()) <= TOOL_RESULT_BYTES_MAX
    assert world.process.live.writers[1].results == [committed]


async def test_a_tool_that_ends_the_turn_ends_it(world: World) -> None:
    """The model is not called again after a success."""
    world.tool("done", ends_turn=True)
    world.model.says(calls("done"))
    chat = await world.chat("go")
    state = await chat.ended()
    assert state.stop_reason is StopReason.END_TURN
    assert len(world.model.requests) == 1


async def test_a_failed_tool_does_not_end_the_turn(world: World) -> None:
    """Only a successful call counts."""
    world.tool("done", ends_turn=True).gives("no", is_error=True)
    world.model.says(calls("done"))
    world.model.says(text("Then not."))
    chat = await world.chat("go")
    await chat.ended()
    assert len(world.model.requests) == 2


async def test_max_steps_runs_the_tools_of_the_last_answer(world: World) -> None:
    """Then the turn ends with a stop reason that a client sees."""
    shell = world.tool("shell")
    world.model.says(calls("shell"))
    world.model.says(calls("shell"))
    chat = await world.chat("go", options=TurnOptions(max_steps=2))
    await chat.ended()
    await golden(chat, "max_steps")
    assert len(shell.runs) == 2


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        (FinishReason.END_TURN, StopReason.END_TURN),
        (FinishReason.MAX_TOKENS, StopReason.MAX_TOKENS),
        (FinishReason.REFUSAL, StopReason.REFUSAL),
        (FinishReason.CONTENT_FILTER, StopReason.CONTENT_FILTER),
        (FinishReason.CONTEXT_EXCEEDED, StopReason.CONTEXT_EXCEEDED),
        (FinishReason.OTHER, StopReason.END_TURN),
    ],
)
async def test_calls_of_an_answer_that_was_cut_never_run(
    world: World, finish: FinishReason, stop_reason: StopReason
) -> None:
    """Our calls and the client's are answered in the same transition."""
    shell = world.tool("shell")
    world.model.says(text("I"), calls("shell"), calls("open"), finish=finish)
    chat = await world.chat("go", client_tools=["open"])
    state = await chat.ended()
    assert state.stop_reason is stop_reason
    assert shell.runs == []
    assert [result.error for result in await results(chat)] == [ToolErrorKind.ANSWER_CUT] * 2


async def test_a_call_that_never_ended_does_not_run(world: World) -> None:
    """Even if the vendor's finish reason is tool calls."""
    shell = world.tool("shell")
    world.model.plays(
        CallStarted(0, "v", "shell"),
        Delta(0, PieceKind.CALL, "{}"),
        Finished(FinishReason.TOOL_CALLS, Usage()),
    )
    chat = await world.chat("go")
    await chat.ended()
    assert shell.runs == []
    assert [result.error for result in await results(chat)] == [ToolErrorKind.ANSWER_CUT]


async def test_an_empty_answer_ends_the_turn_and_stays_out_of_prompts(world: World) -> None:
    """It is committed, but is not in the context of the next turn."""
    world.model.says(finish=FinishReason.TOOL_CALLS)
    world.model.says(text("Yes?"))
    chat = await world.chat("hello")
    await chat.ended()
    assert await chat.history() == ["user", "  text 'hello'", "assistant (tool_calls)"]
    await chat.send("hello?")
    await chat.ended()
    assert [it.role for it in world.model.requests[1].messages] == ["user", "user"]


async def test_a_paused_answer_goes_on_without_a_new_message(world: World) -> None:
    """The vendor's call is paired with the result in its next answer."""
    world.model.plays(
        Delta(0, PieceKind.TEXT, "I look"),
        CallStarted(1, "srv", "web_search", by_provider=True),
        PartEnded(1, None, "{}"),
        Finished(FinishReason.PAUSED, Usage()),
    )
    world.model.plays(
        ProviderResult(0, "srv", "web_search", "[]"),
        Delta(1, PieceKind.TEXT, "Found."),
        Finished(FinishReason.END_TURN, Usage()),
    )
    chat = await world.chat("search")
    await chat.ended()
    (_, asked), (_, _, found) = world.model.requests[1].messages, await chat.messages()
    assert asked.calls[0].id == found.results[0].call_id
    await golden(chat, "paused")


async def test_pauses_in_a_row_are_bounded(world: World) -> None:
    """A vendor that only pauses does not keep the turn open for ever."""
    for _ in range(PAUSES_IN_A_ROW_MAX):
        world.model.says(text("wait"), finish=FinishReason.PAUSED)
    chat = await world.chat("go")
    state = await chat.ended()
    assert state.stop_reason is StopReason.MAX_STEPS
    assert len(world.model.requests) == PAUSES_IN_A_ROW_MAX


async def test_provider_results_stay_next_to_their_call(world: World) -> None:
    """They are parts of the answer, in stream order, with their sources."""
    world.model.says(text("Look:"), searches("cats"), text("Cats."))
    chat = await world.chat("search cats")
    await chat.ended()
    await golden(chat, "provider_tool")


async def test_a_surrogate_pair_cut_in_two_arrives_whole(world: World) -> None:
    """It is joined before it is shown and stored; a lone half becomes U+FFFD; NUL survives."""
    world.model.says(text("a\ud83d", "\ude00b\x00", "\ud83d"))
    chat = await world.chat("smile")
    await chat.ended()
    (_, answer) = await chat.history_texts()
    assert answer == "a\U0001f600b\x00\ufffd"
    assert world.process.live.writers[0].texts == {0: answer}


async def test_client_tools_are_asked_for_when_ours_are_done(world: World) -> None:
    """No task waits: the run ends until the results arrive."""
    gate = world.tool("shell").hangs()
    world.model.says(calls("open", '{"x":1}'), calls("shell"))
    world.model.says(text("Both."))
    chat = await world.chat("go", client_tools=["open"])
    await world.until(spans.ToolStarted, tool="shell")
    assert chat.state.status is Status.RUNNING
    gate.open()
    await chat.until(Status.REQUIRES_ACTION)
    await world.until(spans.RunFinished)
    assert world.process.worker.running == 0
    await chat.submit("opened")
    await chat.ended()
    await golden(chat, "client_tool")


async def test_a_clients_name_wins_over_a_built_in(world: World) -> None:
    """The model gets one tool of that name, and calls go to the client."""
    shell = world.tool("shell")
    world.model.says(calls("shell"))
    chat = await world.chat("go", client_tools=["shell"])
    await chat.until(Status.REQUIRES_ACTION)
    assert shell.runs == []
    (offered,) = world.model.requests[0].tools
    assert offered.description == "the client's shell"
    await world.until(spans.ToolHidden, tool="shell")


async def test_a_missed_deadline_answers_for_the_client(world: World) -> None:
    """The model learns that the results expired, and continues."""
    world.model.says(calls("open"))
    world.model.says(text("Too late."))
    chat = await world.chat("go", client_tools=["open"], action_timeout_seconds=60)
    await chat.until(Status.REQUIRES_ACTION)
    await world.clock.sleeping("rescue")
    await world.clock.advance(59)
    assert chat.state.status is Status.REQUIRES_ACTION
    await world.clock.advance(1)
    await chat.ended()
    await golden(chat, "deadline")


async def test_a_model_that_is_not_configured_fails_the_turn(world: World) -> None:
    """The chat reports it, and a retry works once the model is configured again."""
    chat = await world.chat("hi", model="test/gone")
    state = await chat.until(Status.ERROR)
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.CONFIG
    assert "test/gone" in state.last_error.message


async def test_a_defect_fails_the_turn_with_an_id_of_the_log(world: World) -> None:
    """Never silent: the chat shows an id, and the log has the cause under that id."""
    chat = await world.chat("hi")  # the script is empty: the model raises an AssertionError
    state = await chat.until(Status.ERROR)
    noted = await world.until(spans.RunFailed, chat=chat.id)
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.INTERNAL
    assert noted.error_id in state.last_error.message
    assert noted.exception == "AssertionError"
    assert world.process.live.lines[-1] == "abandoned"


async def test_a_lost_answer_of_the_database_is_looked_up(world: World) -> None:
    """A commit whose acknowledgement was lost is found again, and its messages are read."""
    world.tool("shell")
    world.process.cable.forgets_answers = True
    world.model.says(calls("shell"))
    world.model.says(text("Done."))
    chat = await world.chat("go")
    state = await chat.ended()
    assert state.stop_reason is StopReason.END_TURN
    assert [it.role for it in world.model.requests[1].messages] == ["user", "assistant", "tool"]
    assert len(await chat.messages()) == 4


async def test_calls_and_results_carry_the_time_when_they_happened(world: World) -> None:
    """A call when it was emitted, a result when its tool finished; not when they were written."""
    gate, in_text = world.tool("shell").hangs(), Gate()
    world.model.says(calls("shell"), text("and ", in_text, "so on"))
    world.model.says(text("Done."))
    start = world.clock.now()
    chat = await world.chat("go")
    await in_text.reached()
    await world.clock.advance(2)
    in_text.open()
    await gate.reached()
    await world.clock.advance(3)
    gate.open()
    await chat.ended()
    (_, answer, tool, _) = await chat.messages()
    assert answer.calls[0].created_at == start
    assert answer.created_at == start + 2 * MICROSECONDS
    assert tool.results[0].created_at == start + 5 * MICROSECONDS


async def test_a_tool_that_cancels_itself_has_failed(world: World) -> None:
    """The turn was not stopped, so this is not an interrupt."""
    world.tool("shell").error = asyncio.CancelledError()
    world.model.says(calls("shell"))
    world.model.says(text("Oh."))
    chat = await world.chat("go")
    await chat.ended()
    assert [result.error for result in await results(chat)] == [ToolErrorKind.FAILED]


async def test_a_batch_that_is_too_large_fails_the_turn(world: World) -> None:
    """The running tools are cancelled, and every call has a result."""
    world.process.live.results_max = 1
    hanging = world.tool("hanging").hangs()
    second = world.tool("second").hangs()
    world.tool("first")
    world.model.says(calls("first"), calls("second"), calls("hanging"))
    chat = await world.chat("go")
    await world.until(spans.ToolFinished, tool="first")
    await hanging.reached()
    second.open()
    await chat.until(Status.ERROR)
    await golden(chat, "batch_too_large")


async def test_a_last_result_that_is_too_much_is_kept_all_the_same(world: World) -> None:
    """The turn fails, and the call keeps its real outcome."""
    world.process.live.results_max = 0
    world.tool("shell").gives("42")
    world.model.says(calls("shell"))
    chat = await world.chat("go")
    state = await chat.until(Status.ERROR)
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.OUTPUT_TOO_LARGE
    assert [(it.output, it.error) for it in await results(chat)] == [("42", None)]
