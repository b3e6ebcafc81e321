"""The rules of the workers' commands: one pure function for each row of the table.

`machine.advance` has checked before that the sender holds the lease and that the row exists.
CommitAnswer, CommitResults and StartAttempt run once or more in every step of every turn, so
they build the turn and the state directly.
"""

import msgspec

from chatd_server.domain.chat import (
    Action,
    Attempt,
    AttemptKind,
    ChatState,
    Lease,
    OpenCall,
    Status,
    StopReason,
    Turn,
)
from chatd_server.domain.command import (
    Acquire,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    ExpireAction,
    Fail,
    FinishInterruption,
    FinishTurn,
    Release,
    RequireAction,
    Rescue,
    ScheduleRetry,
    StartAttempt,
)
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolution,
    CompactionFinished,
    RetryScheduled,
)
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import MICROSECONDS, AttemptId, Instant
from chatd_server.domain.limits import CALLS_PER_ANSWER_MAX, RESCUES_MAX
from chatd_server.domain.machine_calls import (
    batch_results,
    cut_results,
    opened_calls,
    surplus_results,
)
from chatd_server.domain.machine_change import NO_ATTEMPT, Change, end_turn, fail_turn
from chatd_server.domain.machine_events import pending_calls
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Role,
    ToolErrorKind,
    Usage,
    Visibility,
)
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Transition

_replace = msgspec.structs.replace

# --- attempts: the hot path ----------------------------------------------------------------


def start_attempt(state: ChatState, command: StartAttempt, now: Instant) -> Transition:
    """Begin a model call or a batch of tools. Logs nothing: what it shows is live only.

    An attempt that was open is given up. No model is called while calls wait for their
    results, and no batch begins without a call of ours.
    """
    turn = _turn(state)
    kind = command.kind
    if kind is AttemptKind.MODEL and state.calls:
        raise WrongStatus(state.status, "no model call while tool calls are open")
    if kind is AttemptKind.TOOLS and not _owes_batch(state):
        raise WrongStatus(state.status, "no tool call of the service is open")
    attempt = Attempt(
        id=command.attempt_id,
        kind=kind,
        number=turn.failed_attempts + 1,
        base_sequence=state.head_sequence,
    )
    return Transition(
        state=_replace(
            state,
            revision=state.revision + 1,
            updated_at=now,
            turn=_replace(turn, attempt=attempt, next_attempt_at=None),
        )
    )


def schedule_retry(state: ChatState, command: ScheduleRetry, now: Instant) -> Transition:
    """The attempt failed: close it, count it, and say when the next one begins."""
    attempt = _open_attempt(state, command.attempt_id)
    turn = _turn(state)
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
        turn=_replace(
            turn,
            attempt=None,
            failed_attempts=turn.failed_attempts + 1,
            next_attempt_at=retry_at,
        )
    )
    return change.seal()


def commit_answer(state: ChatState, command: CommitAnswer, now: Instant) -> Transition:
    """Commit the model's answer before its tools run, and open its calls.

    A finish reason other than TOOL_CALLS means that the answer was cut: every call of ours
    and of the client's is answered so in the same transition, and none runs. So are calls above
    CALLS_PER_ANSWER_MAX.
    """
    attempt = _open_attempt(state, command.attempt_id, AttemptKind.MODEL)
    turn = _turn(state)
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
        turn=_progressed(turn, steps=1),
        calls=calls,
        usage_total=state.usage_total.plus(command.usage),
    )


def commit_results(state: ChatState, command: CommitResults, now: Instant) -> Transition:
    """Commit the results of a batch in call order. The client's calls stay open."""
    attempt = _open_attempt(state, command.attempt_id, AttemptKind.TOOLS)
    turn = _turn(state)
    results, left = batch_results(state.calls, command.results)
    change = Change(state, now)
    change.add_results(results, turn.id, attempt.id)
    return change.seal_step(
        turn=_progressed(turn, stop_after=command.stop_after),
        calls=left,
        usage_total=state.usage_total,
    )


def commit_compaction(state: ChatState, command: CommitCompaction, now: Instant) -> Transition:
    """Commit the summary: the model's context begins with it."""
    attempt = _open_attempt(state, command.attempt_id, AttemptKind.COMPACTION)
    turn = _turn(state)
    change = Change(state, now)
    change.close_calls()
    message = change.add_message(
        Role.USER,
        command.parts,
        turn.id,
        attempt_id=attempt.id,
        closes=True,
        visibility=Visibility.MODEL,
        compressed=True,
    )
    change.emit(
        CompactionFinished(
            source=command.source,
            boundary_position=message.position,
            tokens_before=command.tokens_before,
            tokens_after=command.tokens_after,
        )
    )
    change.set(turn=_progressed(turn, compactions=1), rescues=0, boundary_position=message.position)
    return change.seal()


def _progressed(
    turn: Turn, *, steps: int = 0, compactions: int = 0, stop_after: bool = False
) -> Turn:
    """Return the turn after a commit: its attempt is over, and the count of failures too."""
    return Turn(
        id=turn.id,
        first_position=turn.first_position,
        options=turn.options,
        steps=turn.steps + steps,
        compactions=turn.compactions + compactions,
        stop_after=turn.stop_after or stop_after,
        compaction_requested=turn.compaction_requested,
    )


def _turn(state: ChatState) -> Turn:
    turn = state.turn
    assert turn is not None, "a chat that a worker holds has a turn"
    return turn


def _open_attempt(
    state: ChatState, attempt_id: AttemptId, kind: AttemptKind | None = None
) -> Attempt:
    attempt = _turn(state).attempt
    if attempt is None or attempt.id != attempt_id or (kind and attempt.kind is not kind):
        raise WrongStatus(state.status, f"{attempt_id[:64]!r} is not the open attempt of this kind")
    return attempt


def _owes_batch(state: ChatState) -> bool:
    return any(call.executor is not Executor.CLIENT for call in state.calls)


# --- the end of a run ----------------------------------------------------------------------


def require_action(state: ChatState, command: RequireAction, now: Instant) -> Transition:
    """Hand the open calls to the client. Refused while a call of ours has no result."""
    _ = command
    if not state.calls or _owes_batch(state):
        raise WrongStatus(state.status, "not exactly the client's calls are open")
    turn = _turn(state)
    change = Change(state, now)
    deadline = now + round(state.config.action_timeout_seconds * MICROSECONDS)
    action = Action(turn_id=turn.id, deadline=deadline, sequence=change.next_sequence)
    change.emit(
        ActionRequired(turn_id=turn.id, calls=pending_calls(state.calls), deadline=deadline)
    )
    change.set(
        status=Status.REQUIRES_ACTION,
        action=action,
        lease=None,
        turn=_replace(turn, attempt=None),
    )
    change.say_status(Status.REQUIRES_ACTION, turn.id)
    return change.seal()


def finish_turn(state: ChatState, command: FinishTurn, now: Instant) -> Transition:
    """The turn is over; the queue's head begins the next one."""
    if _turn(state).id != command.turn_id:
        raise WrongStatus(state.status, f"{command.turn_id[:64]!r} is not the open turn")
    change = Change(state, now)
    end_turn(change, state.queue, command.stop_reason)
    return change.seal()


def finish_interruption(state: ChatState, command: FinishInterruption, now: Instant) -> Transition:
    """Save the partial step and end the turn as interrupted.

    The partial step is the answer so far, or, when the answer was committed already, what its
    tools have given. Refused when the answer belongs to another attempt than the open one.
    """
    turn = _turn(state)
    attempt_id = command.attempt_id
    if command.parts:
        _open_attempt(state, attempt_id, AttemptKind.MODEL)
    elif turn.attempt is None or turn.attempt.id != attempt_id:
        # Nothing of an attempt is saved, so there is none to close.
        attempt_id = NO_ATTEMPT
    change = Change(state, now)
    outcomes = {result.call_id: result for result in command.results}
    if command.parts:
        change.close_calls(outcomes=outcomes)
        change.add_message(
            Role.ASSISTANT,
            command.parts,
            change.turn.id,
            attempt_id=attempt_id,
            closes=True,
            model=command.model,
            finish_reason=FinishReason.INTERRUPTED,
            usage=command.usage,
        )
        change.set(calls=opened_calls(command.parts))
        attempt_id = NO_ATTEMPT
    change.close_calls(outcomes=outcomes, attempt_id=attempt_id)
    # The vendor may not have said anything yet; what is known of the context stays then.
    if command.usage != Usage():
        change.set(usage_total=state.usage_total.plus(command.usage))
    end_turn(change, state.queue, StopReason.INTERRUPTED)
    return change.seal()


def fail(state: ChatState, command: Fail, now: Instant) -> Transition:
    """The turn failed past retrying. The queue waits for a person."""
    change = Change(state, now)
    fail_turn(change, command.error)
    return change.seal()


# --- leases --------------------------------------------------------------------------------


def acquire(state: ChatState, command: Acquire, now: Instant) -> Transition:
    """Take the lease: a new epoch. An attempt of an earlier worker is void."""
    change = Change(state, now)
    turn = change.turn
    epoch = state.epoch + 1
    change.set(
        lease=Lease(
            worker_id=command.worker_id,
            epoch=epoch,
            expires_at=now + round(command.lease_seconds * MICROSECONDS),
        ),
        epoch=epoch,
        turn=_without_attempt(turn),
    )
    if state.status is Status.PENDING:
        change.set(status=Status.RUNNING)
        change.say_status(Status.RUNNING, turn.id)
    return change.seal()


def release(state: ChatState, command: Release, now: Instant) -> Transition:
    """Give the chat back; the turn goes on where its last commit left it."""
    _ = command
    change = Change(state, now)
    _give_back(change)
    return change.seal()


def rescue(state: ChatState, command: Rescue, now: Instant) -> Transition:
    """The lease has expired: give the chat back, and count it."""
    _ = command
    change = Change(state, now)
    _give_back(change)
    change.set(rescues=state.rescues + 1)
    return change.seal()


def rescue_no_more(state: ChatState, command: Rescue, now: Instant) -> Transition:
    """The lease has expired too often in a row without progress: this turn kills workers."""
    _ = command
    change = Change(state, now)
    fail_turn(
        change,
        ChatError(
            kind=ErrorKind.WORKER_LOST,
            message=(f"The worker was lost {RESCUES_MAX + 1} times in a row without progress."),
        ),
    )
    return change.seal()


def _give_back(change: Change) -> None:
    turn = change.turn
    change.set(lease=None, turn=_without_attempt(turn))
    if change.state.status is Status.RUNNING:
        change.set(status=Status.PENDING)
        change.say_status(Status.PENDING, turn.id)


def _without_attempt(turn: Turn) -> Turn:
    return turn if turn.attempt is None else _replace(turn, attempt=None)


def expire_action(state: ChatState, command: ExpireAction, now: Instant) -> Transition:
    """The deadline has passed: calls without a result are answered so, and the turn goes on."""
    _ = command
    change = Change(state, now)
    change.close_calls(ToolErrorKind.EXPIRED)
    change.resolve_action(ActionResolution.EXPIRED)
    change.set(status=Status.PENDING)
    change.say_status(Status.PENDING, change.turn.id)
    return change.seal()
