"""The rules of a step: an attempt begins, fails, or commits what it gave."""

import msgspec

from chatd_server.domain.chat import Attempt, AttemptKind, OpenCall
from chatd_server.domain.command import CommitAnswer, CommitResults, ScheduleRetry, StartAttempt
from chatd_server.domain.event import RetryScheduled
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.limits import CALLS_PER_ANSWER_MAX
from chatd_server.domain.machine.calls import (
    batch_results,
    crowded_results,
    cut_results,
    opened_calls,
    owes_batch,
    surplus_results,
)
from chatd_server.domain.machine.change import Change
from chatd_server.domain.message import FinishReason, Role
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Transition


def start_attempt(change: Change, command: StartAttempt) -> Transition:
    """Logs nothing: what an attempt shows is live only. An attempt that was open is given up.

    Raises WrongStatus for a model call while calls wait for their results, and for a batch when
    no call of ours is open.
    """
    state = change.state
    turn = change.open_turn
    kind = command.kind
    if kind is AttemptKind.MODEL and state.calls:
        raise WrongStatus(state.status, "no model call while tool calls are open")
    if kind is AttemptKind.TOOLS and not owes_batch(state.calls):
        raise WrongStatus(state.status, "no tool call of the service is open")
    attempt = Attempt(
        id=command.attempt_id,
        kind=kind,
        number=turn.failed_attempts + 1,
        base_sequence=state.head_sequence,
    )
    change.turn = msgspec.structs.replace(turn, attempt=attempt, next_attempt_at=None)
    return change.seal()


def schedule_retry(change: Change, command: ScheduleRetry) -> Transition:
    """Close the attempt, count it, and say when the next one may begin."""
    turn = change.open_turn
    attempt = change.open_attempt(command.attempt_id)
    retry_at = change.now + round(command.delay_seconds * MICROSECONDS)
    change.emit(
        RetryScheduled(
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            delay_seconds=command.delay_seconds,
            retry_at=retry_at,
            error=command.error,
            turn_id=turn.id,
        )
    )
    change.turn = msgspec.structs.replace(
        turn,
        attempt=None,
        failed_attempts=turn.failed_attempts + 1,
        next_attempt_at=retry_at,
    )
    return change.seal()


def commit_answer(change: Change, command: CommitAnswer) -> Transition:
    """Commit the answer and open its calls.

    A finish reason other than TOOL_CALLS means that the answer was cut: no call runs, and the same
    transition answers each. So are calls above CALLS_PER_ANSWER_MAX, and all calls beside one that
    had to be alone.
    """
    turn = change.open_turn
    attempt = change.open_attempt(command.attempt_id, AttemptKind.MODEL)
    change.add_message(
        Role.ASSISTANT,
        command.parts,
        turn.id,
        attempt_id=attempt.id,
        closes=True,
        model=command.model,
        response_id=command.response_id,
        finish_reason=command.finish_reason,
        usage=command.usage,
    )
    calls: tuple[OpenCall, ...] = ()
    if command.finish_reason is FinishReason.TOOL_CALLS:
        calls = opened_calls(command.parts)
        if command.crowded:
            change.add_results(crowded_results(calls, command.crowded, change.now), turn.id)
            calls = ()
        elif len(calls) > CALLS_PER_ANSWER_MAX:
            surplus = surplus_results(calls[CALLS_PER_ANSWER_MAX:], change.now)
            change.add_results(surplus, turn.id)
            calls = calls[:CALLS_PER_ANSWER_MAX]
    elif cut := cut_results(command.parts, change.now):
        change.add_results(cut, turn.id)
    change.turn = turn.after_commit(steps=1)
    change.rescues = 0
    change.calls = calls
    change.usage_total = change.state.usage_total.plus(command.usage)
    return change.seal()


def commit_results(change: Change, command: CommitResults) -> Transition:
    """The client's calls stay open. Raises ToolResultsMismatch unless the batch is complete."""
    turn = change.open_turn
    attempt = change.open_attempt(command.attempt_id, AttemptKind.TOOLS)
    results, left = batch_results(change.state.calls, command.results)
    change.add_results(results, turn.id, attempt.id)
    change.turn = turn.after_commit(stop_after=command.stop_after)
    change.rescues = 0
    change.calls = left
    return change.seal()
