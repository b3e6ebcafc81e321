"""The rules that interrupt, retry, and end a turn."""

import msgspec

from chatd_server.domain.chat import AttemptKind, ChatState, Status, StopReason
from chatd_server.domain.command import (
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    RetryTurn,
    SendMessage,
)
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine.calls import opened_calls
from chatd_server.domain.machine.change import (
    NO_ATTEMPT,
    Change,
    ask_to_stop,
    end_turn,
    fail_turn,
    open_attempt,
    turn_of,
    unchanged,
)
from chatd_server.domain.message import FinishReason, Role, Usage
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Reply, Transition


def interrupt_running(state: ChatState, command: Interrupt, now: Instant) -> Transition:
    """Ask the worker to save the partial step and stop."""
    _ = command
    change = Change(state, now)
    ask_to_stop(change)
    return change.seal(Reply(interrupted=True))


def interrupt_idle(state: ChatState, command: Interrupt, now: Instant) -> Transition:
    """Nobody holds it: the turn ends here."""
    _ = command
    change = Change(state, now)
    end_turn(change, state.queue, StopReason.INTERRUPTED)
    return change.seal(Reply(interrupted=True))


def interrupt_nothing(state: ChatState, command: Interrupt, now: Instant) -> Transition:
    """Success with nothing to do: no turn is open, another one is, or it is being cut."""
    _ = now
    cut = state.status is Status.INTERRUPTING and names_open_turn(state, command)
    return unchanged(state, Reply(interrupted=cut))


def names_open_turn(state: ChatState, command: Interrupt | SendMessage) -> bool:
    """Rule 8: say whether the command means the turn that is open."""
    expected = command.expected_turn_id
    return not expected or (state.turn is not None and state.turn.id == expected)


def retry(state: ChatState, command: RetryTurn, now: Instant) -> Transition:
    """The same turn again, with a full ladder of attempts."""
    _ = command
    change = Change(state, now)
    change.set(
        status=Status.PENDING,
        turn=msgspec.structs.replace(change.turn, failed_attempts=0, next_attempt_at=None),
        stop_reason=None,
        last_error=None,
    )
    change.say_status(Status.PENDING, change.turn.id)
    return change.seal()


def finish_turn(state: ChatState, command: FinishTurn, now: Instant) -> Transition:
    """The turn is over; the queue's head begins the next one."""
    if turn_of(state).id != command.turn_id:
        raise WrongStatus(state.status, f"{command.turn_id[:64]!r} is not the open turn")
    change = Change(state, now)
    end_turn(change, state.queue, command.stop_reason)
    return change.seal()


def finish_interruption(state: ChatState, command: FinishInterruption, now: Instant) -> Transition:
    """Save the partial step and end the turn as interrupted.

    The partial step is the answer so far, or, when the answer was committed already, what its
    tools have given. Refused when the answer belongs to another attempt than the open one.
    """
    turn = turn_of(state)
    attempt_id = command.attempt_id
    if command.parts:
        open_attempt(state, attempt_id, AttemptKind.MODEL)
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
