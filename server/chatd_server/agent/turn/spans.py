"""Reports commits to the observer: each command of a run, once it is committed."""

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
from chatd_server.observe import Observer, Span


def note_committed(
    command: Command, before: ChatState, after: ChatState, observer: Observer
) -> None:
    """Note a committed command; `before` is the state that the commit was based on."""
    match command:
        case CommitAnswer():
            observer.note(
                Span.ANSWER_COMMITTED,
                chat=after.id,
                attempt=command.attempt_id,
                finish_reason=command.finish_reason,
                parts=len(command.parts),
            )
        case CommitResults():
            observer.note(
                Span.RESULTS_COMMITTED,
                chat=after.id,
                attempt=command.attempt_id,
                results=len(command.results),
            )
        case RequireAction():
            observer.note(Span.ACTION_REQUIRED, chat=after.id, calls=len(after.calls))
        case FinishTurn():
            _note_end(before, command.stop_reason, observer)
        case FinishInterruption():
            _note_end(before, StopReason.INTERRUPTED, observer)
        case Fail():
            _note_end(before, StopReason.ERROR, observer, kind=command.error.kind)
        case _:
            pass


def _note_end(
    before: ChatState, stop_reason: StopReason, observer: Observer, **facts: object
) -> None:
    assert before.turn is not None, "the turn was open"
    observer.note(
        Span.TURN_FINISHED, chat=before.id, turn=before.turn.id, stop_reason=stop_reason, **facts
    )
