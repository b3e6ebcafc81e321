"""What a committed command of a run reports."""

from msgspec import UNSET, UnsetType

from chatd_server.domain.chat import ChatState, StopReason
from chatd_server.domain.command import (
    Command,
    CommitAnswer,
    CommitResults,
    Fail,
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
