"""The oracle for Subscribe and the machine: what a reader of the log knows about a chat.

`fold` reads only durable events; `shown` derives the same from the execution state. They must agree
after every transition, so a reader of the log never needs to fetch the chat.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from chatd_server.domain.chat import ChatState, Status, StopReason
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolved,
    ChatUpdated,
    CompactionFinished,
    HistoryTruncated,
    LoggedEvent,
    MessageCommitted,
    QueueChanged,
    QueueEntry,
    StatusChanged,
)
from chatd_server.domain.failure import ChatError
from chatd_server.domain.machine.payloads import (
    SYSTEM_PROMPT_PREVIEW_CHARACTERS,
    queue_entries,
)
from chatd_server.domain.message import Message


@dataclass(frozen=True)
class Shown:
    """A chat as its log describes it; empty before the first event."""

    head_sequence: int = 0
    status: Status = Status.WAITING
    archived: bool = False
    #: Empty unless a turn is open.
    turn_id: str = ""
    stop_reason: StopReason | None = None
    last_error: ChatError | None = None
    queue: tuple[QueueEntry, ...] = ()
    messages: tuple[Message, ...] = ()
    boundary_position: int = 1
    #: Ids of the calls that the client must answer, and the deadline; empty if there are none.
    asked_calls: tuple[str, ...] = ()
    deadline: int | None = None
    title: str = ""
    model: str = ""
    system_prompt: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    tools: tuple[str, ...] = ()


def fold(events: Iterable[LoggedEvent], start: Shown | None = None) -> Shown:
    """Return what a reader knows after these events; asserts that no sequence is missing."""
    known = start or Shown()
    for logged in events:
        assert logged.sequence == known.head_sequence + 1, "a gap or a repetition in the log"
        known = replace(_after(known, logged), head_sequence=logged.sequence)
    return known


def _after(known: Shown, logged: LoggedEvent) -> Shown:
    match logged.event:
        case MessageCommitted(position=position):
            message = logged.message
            assert message is not None
            assert (message.position, message.sequence) == (position, logged.sequence)
            assert not known.messages or known.messages[-1].position < position
            return replace(known, messages=(*known.messages, message))
        case StatusChanged() as changed:
            return replace(
                known,
                status=changed.status,
                archived=changed.archived,
                turn_id="" if changed.stop_reason else changed.turn_id,
                stop_reason=changed.stop_reason,
                last_error=changed.last_error,
            )
        case QueueChanged(entries=entries):
            return replace(known, queue=entries)
        case ActionRequired(calls=calls, deadline=deadline):
            return replace(known, asked_calls=tuple(it.id for it in calls), deadline=deadline)
        case ActionResolved():
            return replace(known, asked_calls=(), deadline=None)
        case HistoryTruncated(first_removed_position=first):
            kept = tuple(it for it in known.messages if it.position < first)
            boundary = known.boundary_position if known.boundary_position <= first else 1
            return replace(known, messages=kept, boundary_position=boundary)
        case CompactionFinished(boundary_position=boundary):
            return replace(known, boundary_position=boundary)
        case ChatUpdated() as changed:
            return _configured(known, changed)
    return known


def _configured(known: Shown, changed: ChatUpdated) -> Shown:
    names = ("title", "model", "system_prompt", "labels", "tools")
    fields = {name: getattr(changed, name) for name in names}
    return replace(known, **{name: it for name, it in fields.items() if it is not None})


def shown(state: ChatState, messages: Iterable[Message]) -> Shown:
    """Return the same from the state and its visible messages."""
    action = state.action
    return Shown(
        head_sequence=state.head_sequence,
        status=state.status,
        archived=state.archived,
        turn_id=state.open_turn_id,
        stop_reason=state.stop_reason,
        last_error=state.last_error,
        queue=queue_entries(state.queue),
        messages=tuple(messages),
        boundary_position=state.boundary_position,
        asked_calls=() if action is None else tuple(call.id for call in state.calls),
        deadline=None if action is None else action.deadline,
        title=state.config.title,
        model=state.config.model,
        system_prompt=state.config.system_prompt[:SYSTEM_PROMPT_PREVIEW_CHARACTERS],
        labels=state.config.labels,
        tools=tuple(tool.name for tool in state.config.tools),
    )
