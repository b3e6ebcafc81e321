"""The rules of a step: an attempt begins, fails, or commits what it gave."""

import msgspec

from chatd_server.domain.chat import Attempt, AttemptKind, ChatState, OpenCall
from chatd_server.domain.command import CommitAnswer, CommitResults, ScheduleRetry, StartAttempt
from chatd_server.domain.event import RetryScheduled
from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.limits import CALLS_PER_ANSWER_MAX
from chatd_server.domain.machine.calls import (
    batch_results,
    cut_results,
    opened_calls,
    owes_batch,
    surplus_results,
)
from chatd_server.domain.machine.change import Change, open_attempt, progressed, turn_of
from chatd_server.domain.message import FinishReason, Role
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Transition


def start_attempt(state: ChatState, command: StartAttempt, now: Instant) -> Transition:
    """Begin a model call or a batch of tools. Logs nothing: what it shows is live only.

    An attempt that was open is given up. No model is called while calls wait for their
    results, and no batch begins without a call of ours.
    """
    turn = turn_of(state)
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
    return Transition(
        state=msgspec.structs.replace(
            state,
            revision=state.revision + 1,
            updated_at=now,
            turn=msgspec.structs.replace(turn, attempt=attempt, next_attempt_at=None),
        )
    )


def schedule_retry(state: ChatState, command: ScheduleRetry, now: Instant) -> Transition:
    """The attempt failed: close it, count it, and say when the next one begins."""
    attempt = open_attempt(state, command.attempt_id)
    turn = turn_of(state)
    retry_at = now + round(command.delay_seconds * MICROSECONDS)
    change = Change(state, now)
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
    change.set(
        turn=msgspec.structs.replace(
            turn, attempt=None, failed_attempts=turn.failed_attempts + 1, next_attempt_at=retry_at
        )
    )
    return change.seal()


def commit_answer(state: ChatState, command: CommitAnswer, now: Instant) -> Transition:
    """Commit the model's answer before its tools run, and open its calls.

    A finish reason other than TOOL_CALLS means that the answer was cut: every call of ours
    and of the client's is answered so in the same transition, and none runs. So are calls above
    CALLS_PER_ANSWER_MAX.
    """
    attempt = open_attempt(state, command.attempt_id, AttemptKind.MODEL)
    turn = turn_of(state)
    change = Change(state, now)
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
        if len(calls) > CALLS_PER_ANSWER_MAX:
            change.add_results(surplus_results(calls[CALLS_PER_ANSWER_MAX:], now), turn.id)
            calls = calls[:CALLS_PER_ANSWER_MAX]
    elif cut := cut_results(command.parts, now):
        change.add_results(cut, turn.id)
    return change.seal_step(
        turn=progressed(turn, steps=1),
        calls=calls,
        usage_total=state.usage_total.plus(command.usage),
    )


def commit_results(state: ChatState, command: CommitResults, now: Instant) -> Transition:
    """Commit the results of a batch in call order. The client's calls stay open."""
    attempt = open_attempt(state, command.attempt_id, AttemptKind.TOOLS)
    turn = turn_of(state)
    results, left = batch_results(state.calls, command.results)
    change = Change(state, now)
    change.add_results(results, turn.id, attempt.id)
    return change.seal_step(
        turn=progressed(turn, stop_after=command.stop_after),
        calls=left,
        usage_total=state.usage_total,
    )
