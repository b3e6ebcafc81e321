"""The rules of the model's context: compaction, and clearing."""

from chatd_server.domain.chat import AttemptKind, ChatState, Status, Turn
from chatd_server.domain.command import ClearContext, CommitCompaction, RequestCompaction
from chatd_server.domain.event import CompactionFinished, CompactionSource
from chatd_server.domain.ids import Instant, TurnId
from chatd_server.domain.machine.change import (
    TURN,
    Change,
    open_attempt,
    progressed,
    turn_of,
    unchanged,
)
from chatd_server.domain.message import Role, Visibility
from chatd_server.domain.refusal import NothingToCompact
from chatd_server.domain.transition import Transition


def request_compaction(state: ChatState, command: RequestCompaction, now: Instant) -> Transition:
    """Open a turn that compacts and does nothing else.

    Raises NothingToCompact when the context is empty or one message.
    """
    _ = command
    if state.next_position - state.boundary_position <= 1:
        raise NothingToCompact(state.status, "the context has at most one message")
    change = Change(state, now)
    turn = Turn(
        id=TurnId(change.new_id(TURN)),
        first_position=state.next_position,
        compaction_requested=True,
    )
    change.set(status=Status.PENDING, turn=turn, rescues=0, stop_reason=None, last_error=None)
    change.say_status(Status.PENDING, turn.id)
    return change.seal()


def clear_context(state: ChatState, command: ClearContext, now: Instant) -> Transition:
    """Let the context begin behind the newest message. A failed turn is given up."""
    _ = command
    failed = state.turn
    if failed is None and state.boundary_position == state.next_position:
        return unchanged(state)
    change = Change(state, now)
    change.close_calls()
    change.emit(
        CompactionFinished(source=CompactionSource.CLEAR, boundary_position=state.next_position)
    )
    change.set(boundary_position=state.next_position)
    if failed is not None:
        change.set(status=Status.WAITING, turn=None, last_error=None)
        change.say_status(Status.WAITING, failed.id, state.stop_reason)
    return change.seal()


def commit_compaction(state: ChatState, command: CommitCompaction, now: Instant) -> Transition:
    """Commit the summary: the model's context begins with it."""
    attempt = open_attempt(state, command.attempt_id, AttemptKind.COMPACTION)
    turn = turn_of(state)
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
    change.set(turn=progressed(turn, compactions=1), rescues=0, boundary_position=message.position)
    return change.seal()
