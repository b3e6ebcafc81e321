"""The next action of a turn, decided only from facts in the database.

Pure, and constant in time: it reads the history from its end. So any worker can continue any turn
after any commit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chatd_server.domain.chat import OpenCall, StopReason, Turn
from chatd_server.domain.limits import (
    COMPACTIONS_PER_TURN_MAX,
    PAUSES_IN_A_ROW_MAX,
    STEPS_PER_TURN_MAX,
)
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    FinishReason,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
)


@dataclass(frozen=True)
class CallModel:
    """Call the model."""


@dataclass(frozen=True)
class RunTools:
    """Run the calls that this service answers, in call order."""

    calls: tuple[OpenCall, ...]


@dataclass(frozen=True)
class AskClient:
    """Wait for the client: only its calls are open."""


@dataclass(frozen=True)
class Finish:
    """End the turn."""

    reason: StopReason


@dataclass(frozen=True)
class Compact:
    """Summarise the context."""

    source: CompactionSource


Action: TypeAlias = CallModel | RunTools | AskClient | Finish | Compact

OURS = frozenset({Executor.SERVER, Executor.NONE})
"""Executors whose calls this service answers: with a result, or with an error."""

STOP_REASONS = {
    FinishReason.END_TURN: StopReason.END_TURN,
    # The adapter reported tool calls, but none is for this service or the client.
    FinishReason.TOOL_CALLS: StopReason.END_TURN,
    FinishReason.MAX_TOKENS: StopReason.MAX_TOKENS,
    FinishReason.REFUSAL: StopReason.REFUSAL,
    FinishReason.CONTENT_FILTER: StopReason.CONTENT_FILTER,
    FinishReason.PAUSED: StopReason.END_TURN,
    FinishReason.CONTEXT_EXCEEDED: StopReason.CONTEXT_EXCEEDED,
    FinishReason.INTERRUPTED: StopReason.INTERRUPTED,
    FinishReason.OTHER: StopReason.END_TURN,
}
"""How a turn ends after an answer that leaves no call to run."""


def next_action(
    tail: Sequence[Message], turn: Turn, calls: Sequence[OpenCall], *, is_full: bool = False
) -> Action:
    """Return the next action.

    `tail` ends with the newest message of the turn (earlier turns are not read); `calls` are the
    open calls, in call order; `is_full` says that the context has reached its threshold.
    """
    if ours := tuple(call for call in calls if call.executor in OURS):
        return RunTools(ours)
    if calls:
        return AskClient()
    if turn.compaction_requested:
        # One that failed has ended the turn.
        is_done = turn.compactions > 0
        return Finish(StopReason.COMPACTED) if is_done else Compact(CompactionSource.MANUAL)
    owed = _owed(tail, turn)
    if is_full and _may_compact(owed, tail, turn):
        return Compact(CompactionSource.AUTO)
    return owed


def _may_compact(owed: Action, tail: Sequence[Message], turn: Turn) -> bool:
    """Return whether the context may be summarised before what is owed.

    Between two steps, unless the provider continues its own answer; and at the end, when a tool
    ended the turn, or the model did by itself and may be called again: it goes on from the summary.
    """
    if turn.compaction_failed or turn.compactions >= COMPACTIONS_PER_TURN_MAX:
        return False
    newest = next(_answers(tail), None)
    if isinstance(owed, CallModel):
        return newest is None or newest.finish_reason is not FinishReason.PAUSED
    if turn.stop_after or newest is None:
        return turn.stop_after
    return newest.finish_reason in _BY_ITSELF and not _has_all_steps(turn)


_BY_ITSELF = frozenset({FinishReason.END_TURN, FinishReason.TOOL_CALLS})
"""How the model ends a turn that nothing cuts. (These tool calls were all the provider's.)"""


def _has_all_steps(turn: Turn) -> bool:
    return turn.steps >= (turn.options.max_steps or STEPS_PER_TURN_MAX)


def _owed(tail: Sequence[Message], turn: Turn) -> CallModel | Finish:
    """Return what follows when no call is open."""
    if turn.stop_after:
        return Finish(StopReason.END_TURN)
    answer = next(_answers(tail), None)
    if answer is None:
        return CallModel()
    if not _wants_model(answer):
        assert answer.finish_reason is not None
        return Finish(STOP_REASONS[answer.finish_reason])
    if _has_all_steps(turn):
        return Finish(StopReason.MAX_STEPS)
    if _is_stuck_in_pauses(tail):
        return Finish(StopReason.MAX_STEPS)
    return CallModel()


def is_empty(answer: Message) -> bool:
    """Return whether an answer has no content: prompts leave it out, and it ends its turn."""
    return all(map(_says_nothing, answer.parts))


def _says_nothing(part: Part) -> bool:
    match part:
        case Text(text=text, native=None) | Reasoning(text=text, native=None) | Refusal(text=text):
            return not text.strip()
        case _:
            return False


def _wants_model(answer: Message) -> bool:
    """Return whether the model continues after this answer, once its calls have results."""
    if is_empty(answer):
        return False
    if answer.finish_reason is FinishReason.PAUSED:
        return True
    return answer.finish_reason is FinishReason.TOOL_CALLS and any(
        call.executor is not Executor.PROVIDER for call in answer.calls
    )


def _answers(tail: Sequence[Message]) -> Iterator[Message]:
    """Yield the answers after the newest user message, newest first."""
    for message in reversed(tail):
        if message.role is Role.ASSISTANT:
            yield message
        elif message.role is not Role.TOOL:
            return


def _is_stuck_in_pauses(tail: Sequence[Message]) -> bool:
    for count, answer in enumerate(_answers(tail), start=1):
        if answer.finish_reason is not FinishReason.PAUSED:
            return False
        if count == PAUSES_IN_A_ROW_MAX:
            return True
    return False
