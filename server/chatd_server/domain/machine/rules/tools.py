"""The rules of the client's tools: ask for results, take them, stop waiting for them."""

import msgspec

from chatd_server.domain.chat import Action, ChatState, Status
from chatd_server.domain.command import ExpireAction, RequireAction, SubmitToolResults
from chatd_server.domain.event import ActionRequired, ActionResolution
from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.machine.calls import owes_batch, waiting_calls, with_outcomes
from chatd_server.domain.machine.change import Change, turn_of, unchanged
from chatd_server.domain.machine.payloads import pending_calls
from chatd_server.domain.message import ToolErrorKind
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Reply, Transition


def submit_all(state: ChatState, command: SubmitToolResults, now: Instant) -> Transition:
    """Commit the client's results, kept ones included, in call order; the turn goes on."""
    change = Change(state, now)
    change.set(calls=with_outcomes(state.calls, command, now))
    change.close_calls()
    change.resolve_action(ActionResolution.SUBMITTED)
    change.set(status=Status.PENDING, rescues=0)
    change.say_status(Status.PENDING, change.turn.id)
    return change.seal()


def submit_some(state: ChatState, command: SubmitToolResults, now: Instant) -> Transition:
    """Keep these results and wait for the rest."""
    change = Change(state, now)
    calls = with_outcomes(state.calls, command, now)
    reply = Reply(missing=waiting_calls(calls))
    if calls == state.calls:
        return unchanged(state, reply)
    change.set(calls=calls)
    return change.seal(reply)


def require_action(state: ChatState, command: RequireAction, now: Instant) -> Transition:
    """Hand the open calls to the client. Refused while a call of ours has no result."""
    _ = command
    if not state.calls or owes_batch(state.calls):
        raise WrongStatus(state.status, "not exactly the client's calls are open")
    turn = turn_of(state)
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
        turn=msgspec.structs.replace(turn, attempt=None),
    )
    change.say_status(Status.REQUIRES_ACTION, turn.id)
    return change.seal()


def expire_action(state: ChatState, command: ExpireAction, now: Instant) -> Transition:
    """The deadline has passed: calls without a result are answered so, and the turn goes on."""
    _ = command
    change = Change(state, now)
    change.close_calls(ToolErrorKind.EXPIRED)
    change.resolve_action(ActionResolution.EXPIRED)
    change.set(status=Status.PENDING)
    change.say_status(Status.PENDING, change.turn.id)
    return change.seal()
