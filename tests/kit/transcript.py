"""A chat as readable lines: the content of a golden file."""

from collections.abc import Iterable

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolved,
    ChatUpdated,
    CompactionFinished,
    HistoryTruncated,
    LoggedEvent,
    MessageCommitted,
    QueueChanged,
    RetryScheduled,
    StatusChanged,
)
from chatd_server.domain.message import (
    Message,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Visibility,
)


def transcript(events: Iterable[LoggedEvent], state: ChatState) -> str:
    """Return the log, event by event, and the state of the chat."""
    lines = [line for event in events for line in _event_lines(event)]
    ended = f" ({state.stop_reason})" if state.stop_reason else ""
    lines.append(f"-- {state.status}{ended}")
    return "\n".join(lines) + "\n"


def message_lines(message: Message) -> list[str]:
    """Return a message: its role, and one line per part."""
    finish = f" ({message.finish_reason})" if message.finish_reason else ""
    seen_by = "" if message.visibility is Visibility.BOTH else f" [for the {message.visibility}]"
    return [f"{message.role}{finish}{seen_by}", *(f"  {_part(part)}" for part in message.parts)]


def _event_lines(logged: LoggedEvent) -> list[str]:
    match logged.event:
        case MessageCommitted():
            assert logged.message is not None
            return message_lines(logged.message)
        case StatusChanged() as it:
            why = f": {it.stop_reason}" if it.stop_reason else ""
            error = f" {it.last_error.kind}: {it.last_error.message}" if it.last_error else ""
            return [f"status {it.status}{why}{error}"]
        case RetryScheduled() as it:
            return [f"retry {it.attempt_number} in {it.delay_seconds:g} s: {it.error.kind}"]
        case QueueChanged() as it:
            return [f"queue {[entry.preview for entry in it.entries]}"]
        case ActionRequired() as it:
            return [f"action required: {', '.join(call.name for call in it.calls)}"]
        case ActionResolved() as it:
            return [f"action {it.resolution}"]
        case HistoryTruncated() as it:
            return [f"history truncated from {it.first_removed_position}"]
        case CompactionFinished() as it:
            what = f"compaction ({it.source}) {it.outcome}: context from {it.boundary_position}"
            if it.used_percent is not None:
                what += f", {it.used_percent:g} percent, due at {it.threshold_percent:g}"
            error = f" {it.error.kind}: {it.error.message}" if it.error else ""
            return [what + error]
        case ChatUpdated():
            return ["chat updated"]
        case other:
            return [type(other).__name__]


def _part(part: Part) -> str:
    match part:
        case Text():
            return f"text {part.text!r}"
        case Reasoning():
            return f"reasoning {part.text!r}"
        case Refusal():
            return f"refusal {part.text!r}"
        case ToolCall():
            return f"call {part.name} {part.arguments} [{part.executor}]"
        case ToolResult():
            error = f" error {part.error}:" if part.error else ""
            cut = " (cut)" if part.truncated else ""
            return f"result {part.name}{cut} ->{error} {part.output[:200]}"
        case Source():
            return f"source {part.url}"
        case _:
            return type(part).__name__.lower()
