"""The rules of the model's context: compaction, and clearing."""

from chatd_server.domain.chat import AttemptKind, Turn
from chatd_server.domain.command import ClearContext, CommitCompaction, RequestCompaction
from chatd_server.domain.event import CompactionFinished, CompactionSource
from chatd_server.domain.ids import TurnId
from chatd_server.domain.machine.change import TURN, Change
from chatd_server.domain.message import Role, Visibility
from chatd_server.domain.refusal import NothingToCompact
from chatd_server.domain.transition import Transition


def request_compaction(change: Change, _command: RequestCompaction) -> Transition:
    """Open a turn that compacts and does nothing else.

    Raises NothingToCompact when the context has at most one message.
    """
    state = change.state
    if state.next_position - state.boundary_position <= 1:
        raise NothingToCompact(state.status, "the context has at most one message")
    turn = Turn(
        id=TurnId(change.new_id(TURN)),
        first_position=state.next_position,
        compaction_requested=True,
    )
    change.turn = turn
    change.rescues = 0
    change.stop_reason = None
    change.last_error = None
    return change.seal()


def clear(change: Change, _command: ClearContext) -> Transition:
    """The context begins after the newest message, and a failed turn is given up."""
    boundary = change.state.next_position
    if change.state.boundary_position == boundary and change.target is change.state.status:
        return change.unchanged()
    change.emit(CompactionFinished(source=CompactionSource.CLEAR, boundary_position=boundary))
    change.boundary_position = boundary
    change.turn = None
    change.last_error = None
    return change.seal()


def commit_compaction(change: Change, command: CommitCompaction) -> Transition:
    """The context begins with the summary."""
    turn = change.open_turn
    attempt = change.open_attempt(command.attempt_id, AttemptKind.COMPACTION)
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
    change.turn = turn.after_commit(compactions=1)
    change.rescues = 0
    change.boundary_position = message.position
    return change.seal()
