"""The next action of a turn, as a table."""

from collections.abc import Iterator, Sequence

import pytest

from chatd_server.agent.turn.next_action import (
    Action,
    AskClient,
    CallModel,
    Compact,
    Finish,
    RunTools,
    next_action,
)
from chatd_server.domain.chat import OpenCall, StopReason, Turn
from chatd_server.domain.limits import (
    COMPACTIONS_PER_TURN_MAX,
    PAUSES_IN_A_ROW_MAX,
    STEPS_PER_TURN_MAX,
)
from chatd_server.domain.message import CompactionSource, Executor, FinishReason, Message, Reasoning
from tests.kit.make import answer, call, open_call, provider_result, result, summarised, turn, user

OURS = open_call("a")
NOBODYS = open_call("b", Executor.NONE)
THEIRS = open_call("c", Executor.CLIENT)
STEP = (
    user("go"),
    answer("on it", call("a"), finish=FinishReason.TOOL_CALLS),
    result("a"),
)
SEARCHED = answer(
    call("s", Executor.PROVIDER), provider_result("s"), "found", finish=FinishReason.TOOL_CALLS
)
CUT = (user("go"), answer("on", call("a"), finish=FinishReason.MAX_TOKENS), result("a"))
PAUSED = answer("wait", finish=FinishReason.PAUSED)


@pytest.mark.parametrize(
    ("tail", "calls", "open_turn", "owed"),
    [
        pytest.param([user("go")], (), turn(), CallModel(), id="a question has no answer yet"),
        pytest.param(
            [user("old"), answer("done"), user("go")],
            (),
            turn(),
            CallModel(),
            id="an older turn's answer does not count",
        ),
        pytest.param(STEP[:2], (OURS,), turn(1), RunTools((OURS,)), id="our calls are run first"),
        pytest.param(
            STEP[:2],
            (THEIRS, OURS, NOBODYS),
            turn(1),
            RunTools((OURS, NOBODYS)),
            id="calls without an executor are answered with ours",
        ),
        pytest.param(
            STEP[:2], (THEIRS,), turn(1), AskClient(), id="the client is asked when ours are done"
        ),
        pytest.param(STEP, (), turn(1), CallModel(), id="results go back to the model"),
        pytest.param(
            STEP,
            (),
            turn(1, stop_after=True),
            Finish(StopReason.END_TURN),
            id="a tool ended the turn",
        ),
        pytest.param(
            STEP[:2],
            (THEIRS,),
            turn(1, stop_after=True),
            AskClient(),
            id="the client's calls are not dropped when a tool ends the turn",
        ),
        pytest.param(
            STEP, (), turn(3, max_steps=3), Finish(StopReason.MAX_STEPS), id="max steps reached"
        ),
        pytest.param(
            STEP[:2],
            (OURS,),
            turn(3, max_steps=3),
            RunTools((OURS,)),
            id="tools of the last answer run",
        ),
        pytest.param(
            STEP,
            (),
            turn(STEPS_PER_TURN_MAX),
            Finish(StopReason.MAX_STEPS),
            id="the default bounds every turn",
        ),
        pytest.param(
            [user("go"), answer("hello")],
            (),
            turn(1),
            Finish(StopReason.END_TURN),
            id="the model is done",
        ),
        pytest.param(
            [user("go"), answer("hello")],
            (),
            turn(1, max_steps=1),
            Finish(StopReason.END_TURN),
            id="done at the last step is done",
        ),
        pytest.param(
            CUT, (), turn(1), Finish(StopReason.MAX_TOKENS), id="a cut answer's calls do not go on"
        ),
        pytest.param(
            [user("go"), answer("no", finish=FinishReason.REFUSAL)],
            (),
            turn(1),
            Finish(StopReason.REFUSAL),
            id="refused",
        ),
        pytest.param(
            [user("go"), answer("no", finish=FinishReason.CONTENT_FILTER)],
            (),
            turn(1),
            Finish(StopReason.CONTENT_FILTER),
            id="filtered",
        ),
        pytest.param(
            [user("go"), answer("no", finish=FinishReason.CONTEXT_EXCEEDED)],
            (),
            turn(1),
            Finish(StopReason.CONTEXT_EXCEEDED),
            id="context exceeded",
        ),
        pytest.param(
            [user("go"), SEARCHED],
            (),
            turn(1),
            Finish(StopReason.END_TURN),
            id="the provider's calls alone owe nothing",
        ),
        pytest.param(
            [user("go"), answer(finish=FinishReason.TOOL_CALLS)],
            (),
            turn(1),
            Finish(StopReason.END_TURN),
            id="an empty answer ends the turn",
        ),
        pytest.param(
            [user("go"), answer(Reasoning(""), " \n", finish=FinishReason.PAUSED)],
            (),
            turn(1),
            Finish(StopReason.END_TURN),
            id="a blank answer is empty, also when paused",
        ),
        pytest.param([user("go"), PAUSED], (), turn(1), CallModel(), id="a pause goes on"),
        pytest.param(
            [user("go"), *[PAUSED] * (PAUSES_IN_A_ROW_MAX - 1)],
            (),
            turn(9),
            CallModel(),
            id="pauses below the limit go on",
        ),
        pytest.param(
            [user("go"), *[PAUSED] * PAUSES_IN_A_ROW_MAX],
            (),
            turn(10),
            Finish(StopReason.MAX_STEPS),
            id="pauses are bounded",
        ),
        pytest.param(
            [user("go"), PAUSED],
            (),
            turn(2, max_steps=2),
            Finish(StopReason.MAX_STEPS),
            id="a pause counts as a step",
        ),
    ],
)
def test_next_action(
    tail: Sequence[Message], calls: Sequence[OpenCall], open_turn: Turn, owed: Action
) -> None:
    """Each row is one rule."""
    assert next_action(tail, open_turn, calls) == owed


AUTO = Compact(CompactionSource.AUTO)
DONE = (user("go"), answer("hello"))


@pytest.mark.parametrize(
    ("tail", "calls", "open_turn", "owed"),
    [
        pytest.param([user("go")], (), turn(), AUTO, id="before the first model call"),
        pytest.param(STEP, (), turn(1), AUTO, id="between two steps"),
        pytest.param(STEP[:2], (OURS,), turn(1), RunTools((OURS,)), id="never while ours are open"),
        pytest.param(STEP[:2], (THEIRS,), turn(1), AskClient(), id="never while the client's are"),
        pytest.param(DONE, (), turn(1), AUTO, id="when the model ended by itself"),
        pytest.param([user("go"), SEARCHED], (), turn(1), AUTO, id="also after a search"),
        pytest.param(STEP, (), turn(1, stop_after=True), AUTO, id="when a tool ended the turn"),
        pytest.param(
            STEP,
            (),
            turn(3, max_steps=3),
            Finish(StopReason.MAX_STEPS),
            id="never after max steps",
        ),
        pytest.param(
            DONE,
            (),
            turn(3, max_steps=3),
            Finish(StopReason.END_TURN),
            id="not at the end either, when the model may not go on",
        ),
        *(
            pytest.param(
                [user("go"), answer("no", finish=finish)],
                (),
                turn(1),
                Finish(stop),
                id=f"never after {finish}",
            )
            for finish, stop in (
                (FinishReason.REFUSAL, StopReason.REFUSAL),
                (FinishReason.CONTENT_FILTER, StopReason.CONTENT_FILTER),
                (FinishReason.MAX_TOKENS, StopReason.MAX_TOKENS),
                (FinishReason.CONTEXT_EXCEEDED, StopReason.CONTEXT_EXCEEDED),
                (FinishReason.INTERRUPTED, StopReason.INTERRUPTED),
            )
        ),
        pytest.param(
            [user("go"), PAUSED], (), turn(1), CallModel(), id="never inside a paused answer"
        ),
        pytest.param(
            STEP,
            (),
            turn(1, compactions=COMPACTIONS_PER_TURN_MAX),
            CallModel(),
            id="not more often than a turn may",
        ),
        pytest.param(
            STEP,
            (),
            turn(1, compaction_failed=True),
            CallModel(),
            id="not again at the same point after a failure",
        ),
        pytest.param(
            DONE,
            (),
            turn(1, compaction_failed=True),
            Finish(StopReason.END_TURN),
            id="a failure at the end does not go on",
        ),
    ],
)
def test_when_a_full_context_is_compacted(
    tail: Sequence[Message], calls: Sequence[OpenCall], open_turn: Turn, owed: Action
) -> None:
    """Each row is one rule of automatic compaction."""
    assert next_action(tail, open_turn, calls, is_full=True) == owed


@pytest.mark.parametrize("is_full", [False, True])
def test_a_requested_compaction_is_all_that_its_turn_does(is_full: bool) -> None:
    """It needs no full context, and the model is not called after it."""
    requested = turn(compaction_requested=True)
    manual = Compact(CompactionSource.MANUAL)
    assert next_action(DONE, requested, (), is_full=is_full) == manual
    done = turn(compaction_requested=True, compactions=1)
    summary = summarised("in short")
    assert next_action([summary], done, (), is_full=is_full) == Finish(StopReason.COMPACTED)


def test_after_a_compaction_the_model_goes_on_from_the_summary_and_a_tools_end_stays() -> None:
    """The summary is a message of the role user, so it is answered."""
    summary = summarised("in short")
    assert next_action([summary], turn(1, compactions=1), ()) == CallModel()
    ended = turn(1, compactions=1, stop_after=True)
    assert next_action([summary], ended, ()) == Finish(StopReason.END_TURN)


def test_next_action_looks_at_the_end_only() -> None:
    """Step two thousand costs as much as step two."""

    class Counting(list[Message]):
        looks = 0

        def __reversed__(self) -> Iterator[Message]:
            for message in super().__reversed__():
                self.looks += 1
                yield message

    tail = Counting([user("go"), *[*STEP[1:]] * 2000])
    assert next_action(tail, turn(5, max_steps=9), ()) == CallModel()
    assert tail.looks <= 4
    assert next_action(tail, turn(5, max_steps=9), (), is_full=True) == AUTO
    assert tail.looks <= 10
