"""The rules of the client's tools: ask for results, take them, stop waiting for them."""

import msgspec

from chatd_server.domain.chat import Action
from chatd_server.domain.command import ExpireAction, RequireAction, SubmitToolResults
from chatd_server.domain.event import ActionRequired, ActionResolution
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.machine.calls import owes_batch, waiting_calls, with_outcomes
from chatd_server.domain.machine.change import Change
from chatd_server.domain.machine.payloads import pending_calls
from chatd_server.domain.message import ToolErrorKind
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Reply, Transition


def require_action(change: Change, _command: RequireAction) -> Transition:
    """Raises WrongStatus while a call of ours has no result."""
    state = change.state
    if not state.calls or owes_batch(state.calls):
        raise WrongStatus(state.status, "not exactly the client's calls are open")
    turn = change.open_turn
    deadline = change.now + round(state.config.action_timeout_seconds * MICROSECONDS)
    action = Action(turn_id=turn.id, deadline=deadline, sequence=change.next_sequence)
    change.emit(
        ActionRequired(turn_id=turn.id, calls=pending_calls(state.calls), deadline=deadline)
    )
    change.action = action
    change.turn = msgspec.structs.replace(turn, attempt=None)
    return change.seal()


def submit_some(change: Change, command: SubmitToolResults) -> Transition:
    """Keep these results and wait for the rest."""
    state = change.state
    calls = with_outcomes(state.calls, command, change.now)
    reply = Reply(missing=waiting_calls(calls))
    if calls == state.calls:
        return change.unchanged(reply)
    change.calls = calls
    return change.seal(reply)


def submit_all(change: Change, command: SubmitToolResults) -> Transition:
    """Commit the client's results in call order, those that were kept included."""
    change.calls = with_outcomes(change.state.calls, command, change.now)
    change.rescues = 0
    change.close_calls()
    change.resolve_action(ActionResolution.SUBMITTED)
    return change.seal()


def expire_action(change: Change, _command: ExpireAction) -> Transition:
    """Calls without a result are answered as expired."""
    change.close_calls(ToolErrorKind.EXPIRED)
    change.resolve_action(ActionResolution.EXPIRED)
    return change.seal()
