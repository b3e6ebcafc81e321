"""Compaction of a context, on the real store with a real worker."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from chatd_server.agent.compaction.settings import CompactionSettings
from chatd_server.agent.compaction.words import INTRODUCTION, REQUEST
from chatd_server.domain.answer_parts import Restarted
from chatd_server.domain.chat import Status, StopReason, TurnOptions
from chatd_server.domain.context import ContextUse, Thresholds
from chatd_server.domain.event import CompactionFinished, CompactionOutcome
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.limits import COMPACTIONS_PER_TURN_MAX
from chatd_server.domain.message import (
    CompactionSource,
    FinishReason,
    Role,
    Text,
    Usage,
    Visibility,
)
from chatd_server.observe import spans
from chatd_server.ports.models import Purpose, ToolChoiceMode
from tests.kit.golden import assert_golden
from tests.kit.script import Gate, Spoken, calls, text, thinks
from tests.kit.world import Chat, World

GOLDEN = Path(__file__).parent / "golden"
FULL = Usage(input_tokens=80, output_tokens=0, context_limit=100)
ROOMY = Usage(input_tokens=10, output_tokens=1, context_limit=100)
OVER = Usage(input_tokens=101, output_tokens=0, context_limit=100)
SUMMARY = Usage(input_tokens=70, output_tokens=4, cost_micros=9, context_limit=100)


async def golden(chat: Chat, name: str) -> None:
    """Compare the chat's log with its file."""
    assert_golden(await chat.transcript(), GOLDEN / f"{name}.txt")


async def finished(chat: Chat) -> list[CompactionFinished]:
    """Return how each compaction of the chat ended."""
    events = [it.event for it in await chat.events()]
    return [it for it in events if isinstance(it, CompactionFinished)]


def purposes(world: World) -> list[Purpose]:
    """Return what each call of the model was for."""
    return [it.purpose for it in world.model.requests]


ANSWER, SUMMARISE = Purpose.ANSWER, Purpose.SUMMARY


async def a_full_chat(world: World, usage: Usage = FULL) -> Chat:
    """Return a chat whose last turn ended at its last step, with this usage."""
    world.model.says(text("hello"), usage=usage)
    chat = await world.chat("hi", options=TurnOptions(max_steps=1))
    await chat.ended()
    return chat


# --- between steps, and at the end ---------------------------------------------------------


async def test_a_context_over_its_threshold_is_compacted_between_two_steps(world: World) -> None:
    """The second model call gets the summary instead of what it stands for."""
    world.tool("look")
    world.model.says(calls("look"), usage=FULL)
    world.model.says(thinks("hm"), text("They ", "look."), usage=SUMMARY)
    world.model.says(text("Done."), usage=ROOMY)
    chat = await world.chat("go")
    await chat.ended()
    await golden(chat, "compaction_between_steps")
    assert purposes(world) == [ANSWER, SUMMARISE, ANSWER]
    asked, after = world.model.requests[1:]
    assert [it.role for it in asked.messages] == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.USER]
    assert asked.messages[-1].parts == (Text(REQUEST),)
    assert asked.tools == after.tools
    assert asked.tool_choice is not None
    assert asked.tool_choice.mode is ToolChoiceMode.NONE
    (summary,) = after.messages
    assert (summary.role, summary.parts) == (
        Role.USER,
        (Text(INTRODUCTION), Text("They look.")),
    )
    assert world.process.cable.calls == [
        "CommitAnswer + StartAttempt + start_calls",
        "CommitResults + StartAttempt",
        "CommitCompaction + StartAttempt",
        "CommitAnswer + FinishTurn",
    ], "one commit for each wait"


async def test_what_is_shown_of_a_summary_is_its_message_byte_for_byte(world: World) -> None:
    """Reasoning is dropped; a pair of surrogates that was cut in two is joined."""
    chat = await a_full_chat(world)
    world.model.says(thinks("hm"), text("a\ud83d", "\ude00b"), text("c"))
    await chat.compact()
    await chat.ended()
    writer = world.process.live.writers[-1]
    (summary,) = [it for it in await chat.messages() if it.summary_for is not None]
    shown = [Text(writer.texts[part]) for part in sorted(writer.texts)]
    assert tuple(shown) == summary.parts == (Text(INTRODUCTION), Text("a😀b"), Text("c"))
    started = world.process.live.lines.index("compaction (manual) started")
    assert world.process.live.lines[started + 1] == f"0: text {INTRODUCTION!r}"
    assert not writer.is_abandoned


async def test_the_event_says_what_was_found_and_what_came_of_it(world: World) -> None:
    """80 of 100 tokens, at 70 percent; what is left is an estimate."""
    chat = await a_full_chat(world)
    world.model.says(text("in short"), usage=SUMMARY)
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    await chat.ended()
    (event,) = await finished(chat)
    kept = -(-len("go on") // 4)
    assert event.tokens_after is not None
    assert event.tokens_after > kept
    assert event == CompactionFinished(
        CompactionSource.AUTO,
        boundary_position=4,
        tokens_before=82,
        tokens_after=event.tokens_after,
        summary="in short",
        used_percent=82.0,
        threshold_percent=70.0,
        limit=100,
    )


async def test_below_the_threshold_nothing_is_compacted_or_shown(world: World) -> None:
    """10 of 100."""
    chat = await a_full_chat(world, ROOMY)
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    await chat.ended()
    assert not await finished(chat)
    assert not [it for it in world.process.live.lines if "compaction" in it]


async def test_at_the_end_the_model_goes_on_from_the_summary(world: World) -> None:
    """The final text step is over the limit: the turn is entered again."""
    world.model.says(text("So far so good."), usage=FULL)
    world.model.says(text("All good so far."), usage=SUMMARY)
    world.model.says(text("And done."), usage=ROOMY)
    chat = await world.chat("go")
    state = await chat.ended()
    await golden(chat, "compaction_at_the_end")
    (summary,) = world.model.requests[2].messages
    assert summary.summary_for is CompactionSource.AUTO
    assert state.stop_reason is StopReason.END_TURN


async def test_a_turn_compacts_at_most_three_times(world: World) -> None:
    """However full the context stays."""
    for _ in range(COMPACTIONS_PER_TURN_MAX):
        world.model.says(text("more"), usage=FULL)
        world.model.says(text("in short"), usage=SUMMARY)
    world.model.says(text("enough"), usage=FULL)
    chat = await world.chat("go")
    state = await chat.ended()
    assert len(await finished(chat)) == COMPACTIONS_PER_TURN_MAX
    assert state.stop_reason is StopReason.END_TURN


async def test_a_turn_that_a_tool_ended_compacts_and_ends(world: World) -> None:
    """The tool has ended it; the next turn begins with the summary."""
    world.tool("stop", ends_turn=True)
    world.model.says(calls("stop"), usage=FULL)
    world.model.says(text("in short"), usage=SUMMARY)
    chat = await world.chat("go")
    state = await chat.ended()
    assert (state.stop_reason, len(await finished(chat))) == (StopReason.END_TURN, 1)
    assert purposes(world) == [ANSWER, SUMMARISE]


async def test_nothing_is_compacted_while_the_client_owes_results(world: World) -> None:
    """It waits until they were submitted."""
    world.model.says(calls("ask"), usage=FULL)
    chat = await world.chat("go", client_tools=["ask"])
    await chat.until(Status.REQUIRES_ACTION)
    assert not await finished(chat)
    world.model.says(text("in short"), usage=SUMMARY)
    world.model.says(text("done"), usage=ROOMY)
    await chat.submit("yes")
    await chat.ended()
    assert len(await finished(chat)) == 1
    assert purposes(world) == [ANSWER, SUMMARISE, ANSWER]


async def test_the_newest_request_is_kept_word_for_word(world: World) -> None:
    """It is left out of the summary, and follows it for the model alone."""
    chat = await a_full_chat(world)
    world.model.says(text("in short"), usage=SUMMARY)
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("Paint it blue, not green.")
    await chat.ended()
    asked, after = world.model.requests[1:]
    assert [it.role for it in asked.messages] == [Role.USER, Role.ASSISTANT, Role.USER]
    summary, kept = after.messages
    assert kept.parts == (Text("Paint it blue, not green."),)
    assert (kept.visibility, kept.compressed) == (Visibility.MODEL, True)
    assert chat.state.boundary_position == summary.position


async def test_the_cost_of_a_summary_is_counted(world: World) -> None:
    """The context figures stay those of the conversation."""
    chat = await a_full_chat(world)
    world.model.says(text("in short"), usage=SUMMARY)
    await chat.compact()
    await chat.ended()
    total = chat.state.usage_total
    assert (total.input_tokens, total.output_tokens, total.cost_micros) == (150, 4, 9)
    assert chat.state.context is not None
    assert chat.state.context.counted_tokens is None


# --- thresholds and windows ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("thresholds", "is_compacted"),
    [
        (Thresholds(100.0), False),
        (Thresholds(0.0), True),
        (Thresholds(90.0), False),
        (Thresholds(90.0, models={"test/model": 50.0}), True),
        (Thresholds(50.0, owners={"owner": 100.0}), False),
    ],
    ids=["never", "always", "above", "of the model", "of the owner"],
)
async def test_the_threshold_is_a_setting(
    tmp_path: Path, thresholds: Thresholds, is_compacted: bool
) -> None:
    """Of all, of a model, of an owner."""
    async with World(tmp_path / "chats.db") as world:
        world.compaction = CompactionSettings(thresholds)
        world.start()
        chat = await a_full_chat(world)
        if is_compacted:
            world.model.says(text("in short"))
        world.model.says(text("on"))
        await chat.send("go on", max_steps=1)
        await chat.ended()
        assert len(await finished(chat)) == is_compacted


@pytest.mark.parametrize(("own", "is_compacted"), [(100, True), (None, False), (1000, False)])
async def test_without_a_report_the_models_own_window_counts(
    world: World, own: int | None, is_compacted: bool
) -> None:
    """An unknown window is no reason to compact."""
    world.model.context_limit = own
    chat = await a_full_chat(world, Usage(input_tokens=80, output_tokens=0))
    if is_compacted:
        world.model.says(text("in short"))
    world.model.says(text("on"))
    await chat.send("go on", max_steps=1)
    await chat.ended()
    assert len(await finished(chat)) == is_compacted


async def test_another_model_may_write_the_summaries(tmp_path: Path) -> None:
    """The smaller of both windows decides."""
    async with World(tmp_path / "chats.db") as world:
        small = world.model.add("test/small", context_limit=50)
        world.compaction = CompactionSettings(model="test/small")
        world.start()
        chat = await a_full_chat(world, Usage(input_tokens=40, output_tokens=0, context_limit=100))
        small.says(text("in short"))
        world.model.says(text("on"))
        await chat.send("go on", max_steps=1)
        await chat.ended()
        (event,) = await finished(chat)
        assert (event.limit, event.outcome) == (50, CompactionOutcome.DONE)
        assert purposes(world) == [ANSWER, ANSWER]
        (summary,) = [it for it in await chat.messages() if it.summary_for is not None]
        assert summary.model == "test/small"


# --- on request ----------------------------------------------------------------------------


async def test_a_requested_compaction_needs_no_full_context_and_calls_no_model_after(
    world: World,
) -> None:
    """Below the threshold, without usage, and with a threshold of 100."""
    world.compaction = replace(world.compaction, thresholds=Thresholds(100.0))
    chat = await a_full_chat(world, Usage())
    world.model.says(text("in short"), usage=SUMMARY)
    await chat.compact()
    state = await chat.ended()
    await golden(chat, "compaction_requested")
    assert (state.stop_reason, state.status) == (StopReason.COMPACTED, Status.WAITING)


async def test_a_requested_compaction_that_fails_ends_in_an_error_and_can_be_retried(
    world: World,
) -> None:
    """Whoever asked for it wants to know; the retry is the same request."""
    chat = await a_full_chat(world, ROOMY)
    world.model.fails(ErrorKind.OVERLOADED, text("half"))
    await chat.compact()
    state = await chat.ended()
    await golden(chat, "compaction_requested_fails")
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.OVERLOADED
    world.model.says(text("in short"))
    await chat.retry()
    state = await chat.ended()
    assert state.stop_reason is StopReason.COMPACTED
    assert [it.outcome for it in await finished(chat)] == [
        CompactionOutcome.FAILED,
        CompactionOutcome.DONE,
    ]


async def test_an_edit_of_the_first_message_begins_an_empty_context(world: World) -> None:
    """All that was counted is gone with it; the window is still the model's."""
    chat = await a_full_chat(world, ROOMY)
    world.model.says(text("two"), usage=ROOMY)
    await chat.send("again", max_steps=1)
    await chat.ended()
    world.model.fails(ErrorKind.AUTH)
    await chat.edit(1, "another beginning")
    await chat.ended()
    assert chat.state.context == ContextUse(
        newer_bytes=len("another beginning"), limit=100, model="test/model"
    )


# --- failures ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoken", "finish", "kind"),
    [
        ((), FinishReason.END_TURN, ErrorKind.GENERIC),
        ((text(" \n"),), FinishReason.END_TURN, ErrorKind.GENERIC),
        ((thinks("only thoughts"),), FinishReason.END_TURN, ErrorKind.GENERIC),
        ((text("cut"),), FinishReason.MAX_TOKENS, ErrorKind.OUTPUT_TOO_LARGE),
        ((text("no"),), FinishReason.REFUSAL, ErrorKind.GENERIC),
        ((text("no"),), FinishReason.CONTENT_FILTER, ErrorKind.CONTENT_FILTER),
        ((text("so"),), FinishReason.CONTEXT_EXCEEDED, ErrorKind.CONTEXT_EXCEEDED),
        ((text("so"), calls("look")), FinishReason.TOOL_CALLS, ErrorKind.GENERIC),
    ],
    ids=["nothing", "blank", "thoughts", "length", "refusal", "filter", "context", "calls"],
)
async def test_what_is_no_summary_fails_the_compaction_and_not_the_turn(
    world: World, spoken: tuple[Spoken, ...], finish: FinishReason, kind: ErrorKind
) -> None:
    """There is room left: an event says why, and the model is called with the whole context."""
    chat = await a_full_chat(world)
    world.model.says(*spoken, finish=finish, usage=SUMMARY)
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    state = await chat.ended()
    (event,) = await finished(chat)
    assert event.error is not None
    assert (event.outcome, event.error.kind) == (CompactionOutcome.FAILED, kind)
    assert state.status is Status.WAITING
    assert len(world.model.requests[-1].messages) == 3
    assert state.usage_total.cost_micros == SUMMARY.cost_micros
    await world.until(spans.CompactionFailed, chat=chat.id, kind=kind)


async def test_a_compaction_that_failed_is_tried_again_after_another_answer(world: World) -> None:
    """Not at the same point; it counts."""
    world.tool("look")
    chat = await a_full_chat(world)
    world.model.fails(ErrorKind.OVERLOADED, text("half"))
    world.model.says(calls("look"), usage=FULL)
    world.model.says(text("in short"), usage=SUMMARY)
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    await chat.ended()
    await golden(chat, "compaction_fails_once")
    assert purposes(world) == [ANSWER, SUMMARISE, ANSWER, SUMMARISE, ANSWER]
    assert [it.attempt_number for it in world.model.requests if it.purpose is SUMMARISE] == [1, 2]
    assert "abandoned" in world.process.live.lines


async def test_without_room_a_failed_compaction_fails_the_turn(world: World) -> None:
    """The model would refuse; the error is that of the compaction."""
    chat = await a_full_chat(world, OVER)
    world.model.fails(ErrorKind.RATE_LIMIT)
    await chat.send("go on")
    state = await chat.ended()
    assert state.last_error is not None
    assert (state.status, state.last_error.kind) == (Status.ERROR, ErrorKind.RATE_LIMIT)
    assert len(await finished(chat)) == 1


async def test_a_summary_that_takes_too_long_is_given_up(world: World) -> None:
    """After ninety seconds; the turn goes on."""
    chat = await a_full_chat(world)
    gate = Gate()
    world.model.says(text("half", gate, "whole"))
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    await gate.reached()
    assert await world.clock.advance_to("compaction") == 90
    await chat.ended()
    (event,) = await finished(chat)
    assert event.error is not None
    assert event.error.kind is ErrorKind.TIMEOUT


async def test_a_summary_that_the_vendor_begins_again_fails(world: World) -> None:
    """What was shown must be what is committed."""
    chat = await a_full_chat(world)
    world.model.plays(Restarted())
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    await chat.ended()
    (event,) = await finished(chat)
    assert event.outcome is CompactionOutcome.FAILED


async def test_a_context_that_the_model_refuses_is_compacted_once(world: World) -> None:
    """Without any usage, nobody knew before; the model is called again with the summary."""
    chat = await a_full_chat(world, Usage())
    world.model.fails(ErrorKind.CONTEXT_EXCEEDED)
    world.model.says(text("in short"), usage=SUMMARY)
    world.model.says(text("on"), usage=ROOMY)
    await chat.send("go on")
    await chat.ended()
    await golden(chat, "compaction_after_a_refusal")
    assert purposes(world) == [ANSWER, ANSWER, SUMMARISE, ANSWER]


async def test_a_context_that_is_refused_again_fails_with_its_kind(world: World) -> None:
    """Still over the limit after a compaction: an error, never a loop."""
    chat = await a_full_chat(world, Usage())
    world.model.fails(ErrorKind.CONTEXT_EXCEEDED)
    world.model.says(text("in short"), usage=SUMMARY)
    world.model.fails(ErrorKind.CONTEXT_EXCEEDED)
    await chat.send("go on")
    state = await chat.ended()
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.CONTEXT_EXCEEDED
    assert purposes(world) == [ANSWER, ANSWER, SUMMARISE, ANSWER]


async def test_a_first_message_that_is_too_long_has_nothing_to_summarise(world: World) -> None:
    """The refusal is the turn's error."""
    world.model.fails(ErrorKind.CONTEXT_EXCEEDED)
    chat = await world.chat("very long")
    state = await chat.ended()
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.CONTEXT_EXCEEDED
    assert purposes(world) == [ANSWER]


async def test_a_summary_that_is_refused_too_fails_with_its_kind(world: World) -> None:
    """Whatever the window was thought to be."""
    chat = await a_full_chat(world, Usage())
    world.model.fails(ErrorKind.CONTEXT_EXCEEDED, times=2)
    await chat.send("go on")
    state = await chat.ended()
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.CONTEXT_EXCEEDED
    assert [it.outcome for it in await finished(chat)] == [CompactionOutcome.FAILED]


# --- stops ---------------------------------------------------------------------------------


async def test_an_interrupt_closes_the_open_part_and_writes_nothing_half(world: World) -> None:
    """Half a summary is worth nothing; its cost counts."""
    chat = await a_full_chat(world)
    gate = Gate()
    world.model.says(text("half", gate, "whole"))
    await chat.send("go on")
    await gate.reached()
    await chat.interrupt()
    state = await chat.ended()
    assert state.stop_reason is StopReason.INTERRUPTED
    assert await chat.history_texts() == ["hi", "hello", "go on"]
    assert not await finished(chat)
    await world.until(spans.RunFinished, times=2)
    assert world.process.live.writers[-1].is_abandoned


async def test_a_requested_compaction_survives_the_end_of_its_worker(tmp_path: Path) -> None:
    """A shutdown gives the chat back, a crash leaves it: the next worker compacts."""
    async with World(tmp_path / "chats.db") as world:
        world.start("one")
        chat = await a_full_chat(world)
        gate = Gate()
        world.model.says(text("half", gate, "whole"))
        await chat.compact()
        await gate.reached()
        world.process.leaves_at_once()
        await chat.until(Status.PENDING)
        await asyncio.wait([world.process.task])
        assert world.process.live.writers[-1].is_abandoned
        gate = Gate()
        world.model.says(text("half", gate, "whole"))
        world.start("two")
        await gate.reached()
        await world.process.crash()
        world.model.says(text("in short"))
        world.start("three")
        await world.clock.advance(31)
        state = await chat.ended()
        assert state.stop_reason is StopReason.COMPACTED
        (event,) = await finished(chat)
        assert event.summary == "in short"


async def test_a_worker_that_takes_a_chat_between_compaction_and_answer_goes_on(
    tmp_path: Path,
) -> None:
    """The database alone says what is next."""
    async with World(tmp_path / "chats.db") as world:
        world.start("one")
        chat = await a_full_chat(world)
        gate = Gate()
        world.model.says(text("in short"), usage=SUMMARY)
        world.model.says(text("half", gate, "whole"))
        await chat.send("go on")
        await gate.reached()
        await world.process.crash()
        world.model.says(text("on"), usage=ROOMY)
        world.start("two")
        await world.clock.advance(31)
        await chat.ended()
        summary, kept = world.model.requests[-1].messages
        assert summary.summary_for is CompactionSource.AUTO
        assert kept.parts == (Text("go on"),)
        assert len(await finished(chat)) == 1
