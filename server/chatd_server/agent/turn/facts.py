"""What a committed command of a run reports."""

from msgspec import UNSET, UnsetType

from chatd_server.domain.chat import ChatState, StopReason
from chatd_server.domain.command import (
    Command,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    Fail,
    FailCompaction,
    FinishInterruption,
    FinishTurn,
    RequireAction,
)
from chatd_server.domain.failure import ErrorKind
from chatd_server.observe import spans


def fact_of(command: Command, before: ChatState, after: ChatState) -> spans.Fact | None:
    """Return what a committed command reports; the commit was based on `before`."""
    match command:
        case CommitAnswer():
            return spans.AnswerCommitted(
                chat=after.id,
                attempt=command.attempt_id,
                finish_reason=command.finish_reason,
                parts=len(command.parts),
            )
        case CommitResults():
            return spans.ResultsCommitted(
                chat=after.id, attempt=command.attempt_id, results=len(command.results)
            )
        case CommitCompaction():
            return spans.CompactionCommitted(
                chat=after.id,
                attempt=command.attempt_id,
                source=command.source,
                tokens_before=None if command.level is None else command.level.use.used_tokens,
                tokens_after=None if after.context is None else after.context.used_tokens,
            )
        case FailCompaction():
            return spans.CompactionFailed(
                chat=after.id,
                attempt=command.attempt_id,
                source=command.source,
                kind=command.error.kind,
            )
        case RequireAction():
            return spans.ActionRequired(chat=after.id, calls=len(after.calls))
        case FinishTurn():
            return _end(before, command.stop_reason)
        case FinishInterruption():
            return _end(before, StopReason.INTERRUPTED)
        case Fail():
            return _end(before, StopReason.ERROR, command.error.kind)
        case _:
            return None


def _end(
    before: ChatState, reason: StopReason, kind: ErrorKind | UnsetType = UNSET
) -> spans.TurnFinished:
    assert before.turn is not None, "the turn was open"
    return spans.TurnFinished(chat=before.id, turn=before.turn.id, stop_reason=reason, kind=kind)
