"""The rules of the model's context: compaction, and clearing."""

import msgspec

from chatd_server.domain.chat import AttemptKind, Turn
from chatd_server.domain.command import (
    ClearContext,
    CommitCompaction,
    FailCompaction,
    RequestCompaction,
)
from chatd_server.domain.event import CompactionFinished, CompactionOutcome
from chatd_server.domain.ids import TurnId
from chatd_server.domain.machine.change import TURN, Change
from chatd_server.domain.machine.payloads import compaction_finished, shown_summary
from chatd_server.domain.message import CompactionSource, Role, Visibility
from chatd_server.domain.refusal import NothingToCompact
from chatd_server.domain.transition import Transition


def request_compaction(change: Change, _command: RequestCompaction) -> Transition:
    """Open a turn that compacts and does nothing else.

    Raises NothingToCompact when the context has no answer since the newest summary. When that is
    unknown (after an edit), the worker finds out.
    """
    state = change.state
    is_empty = state.next_position - state.boundary_position <= 1
    if is_empty or (state.context is not None and not state.context.is_answered):
        raise NothingToCompact(
            state.status,
            "the context has no answer since its beginning or its newest summary, so there is "
            "nothing to summarise; send a message first",
        )
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
    before = change.state.context
    change.emit(
        CompactionFinished(
            source=CompactionSource.CLEAR,
            boundary_position=boundary,
            tokens_before=None if before is None else before.used_tokens,
            tokens_after=0,
        )
    )
    change.boundary_position = boundary
    change.begin_context()
    change.turn = None
    change.last_error = None
    return change.seal()


def commit_compaction(change: Change, command: CommitCompaction) -> Transition:
    """The context begins with the summary; the unanswered messages of the user follow it."""
    turn = change.open_turn
    attempt = change.open_attempt(command.attempt_id, AttemptKind.COMPACTION)
    change.close_calls()
    change.begin_context()
    summary = change.add_message(
        Role.USER,
        command.parts,
        turn.id,
        attempt_id=attempt.id,
        closes=True,
        model=command.model,
        usage=command.usage,
        visibility=Visibility.MODEL,
        compressed=True,
        summary_for=command.source,
    )
    for parts in command.unanswered:
        change.add_message(Role.USER, parts, turn.id, visibility=Visibility.MODEL, compressed=True)
    finished = compaction_finished(command.source, summary.position, command.level)
    context = change.context
    change.emit(
        msgspec.structs.replace(
            finished,
            tokens_after=None if context is None else context.used_tokens,
            summary=shown_summary(command.parts),
        )
    )
    change.turn = turn.after_commit(compactions=1)
    change.rescues = 0
    change.boundary_position = summary.position
    change.usage_total = change.state.usage_total.plus_aside(command.usage)
    return change.seal()


def fail_compaction(change: Change, command: FailCompaction) -> Transition:
    """Close the attempt and count it. The context stays, and the turn stays open."""
    turn = change.open_turn
    attempt = change.open_attempt(command.attempt_id, AttemptKind.COMPACTION)
    finished = compaction_finished(command.source, change.boundary_position, command.level)
    change.emit(
        msgspec.structs.replace(
            finished,
            outcome=CompactionOutcome.FAILED,
            attempt_id=attempt.id,
            error=command.error,
        )
    )
    change.turn = msgspec.structs.replace(
        turn, attempt=None, compactions=turn.compactions + 1, compaction_failed=True
    )
    change.usage_total = change.state.usage_total.plus_aside(command.usage)
    return change.seal()
