"""The rules that interrupt, retry, end and fail a turn."""

import msgspec

from chatd_server.domain.chat import AttemptKind, StopReason
from chatd_server.domain.command import Fail, FinishInterruption, FinishTurn, Interrupt, RetryTurn
from chatd_server.domain.machine.calls import opened_calls
from chatd_server.domain.machine.change import (
    NO_ATTEMPT,
    Change,
    end_turn,
    fail_turn,
)
from chatd_server.domain.message import FinishReason, Role, Usage
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Reply, Transition


def ask_to_stop(change: Change, _command: Interrupt) -> Transition:
    """The status asks the worker to save the partial step and stop."""
    return change.seal(Reply(interrupted=True))


def interrupt(change: Change, _command: Interrupt) -> Transition:
    """No worker holds the chat: end the turn."""
    end_turn(change, StopReason.INTERRUPTED)
    return change.seal(Reply(interrupted=True))


def already_stopping(change: Change, _command: Interrupt) -> Transition:
    return change.unchanged(Reply(interrupted=True))


def nothing_to_interrupt(change: Change, _command: Interrupt) -> Transition:
    return change.unchanged()


def retry(change: Change, _command: RetryTurn) -> Transition:
    """The same turn again, with all its attempts and compactions."""
    change.turn = msgspec.structs.replace(
        change.open_turn,
        failed_attempts=0,
        next_attempt_at=None,
        compactions=0,
        compaction_failed=False,
    )
    change.stop_reason = None
    change.last_error = None
    return change.seal()


def finish(change: Change, command: FinishTurn) -> Transition:
    if change.open_turn.id != command.turn_id:
        raise WrongStatus(change.state.status, f"{command.turn_id[:64]!r} is not the open turn")
    end_turn(change, command.stop_reason)
    return change.seal()


def finish_interruption(change: Change, command: FinishInterruption) -> Transition:
    _save_partial_step(change, command)
    end_turn(change, StopReason.INTERRUPTED)
    return change.seal()


def _save_partial_step(change: Change, command: FinishInterruption) -> None:
    """Save the answer so far, or, when the answer was committed already, what its tools gave.

    Raises WrongStatus when the answer belongs to another attempt than the open one.
    """
    turn = change.open_turn
    attempt_id = command.attempt_id
    if command.parts:
        change.open_attempt(attempt_id, AttemptKind.MODEL)
    elif turn.attempt is None or turn.attempt.id != attempt_id:
        # Nothing of an attempt is saved, so no event closes one.
        attempt_id = NO_ATTEMPT
    outcomes = {result.call_id: result for result in command.results}
    if command.parts:
        change.close_calls(outcomes=outcomes)
        change.add_message(
            Role.ASSISTANT,
            command.parts,
            turn.id,
            attempt_id=attempt_id,
            closes=True,
            model=command.model,
            finish_reason=FinishReason.INTERRUPTED,
            usage=command.usage,
        )
        change.calls = opened_calls(command.parts)
        attempt_id = NO_ATTEMPT
    change.close_calls(outcomes=outcomes, attempt_id=attempt_id)
    # The vendor may not have told any usage yet: what is known of the context stays then.
    if command.usage != Usage():
        total = change.state.usage_total
        is_aside = turn.attempt is not None and turn.attempt.kind is AttemptKind.COMPACTION
        change.usage_total = (
            total.plus_aside(command.usage) if is_aside else total.plus(command.usage)
        )


def fail(change: Change, command: Fail) -> Transition:
    """The queue stays: it waits for a person."""
    fail_turn(change, command.error)
    return change.seal()
