"""What a subscriber can be told: the durable events of a chat's log.

Live events are not values of the domain: they are slices of the overlay (see `hub`).
"""

from enum import StrEnum
from typing import TypeAlias

from chatd_server.domain.chat import Status, StopReason
from chatd_server.domain.failure import ChatError
from chatd_server.domain.ids import AttemptId, ChatId, Instant, MessageId, ToolCallId, TurnId
from chatd_server.domain.message import (
    CompactionSource,
    FileReference,
    Message,
    Part,
    Text,
    Value,
)

QUEUE_PREVIEW_CHARACTERS = 200
"""Characters of a queued message that `queue_changed` shows: 42 KiB for a full queue at most."""


class MessageCommitted(Value, frozen=True, tag_field="kind", tag="message_committed"):
    """A message was committed; the log refers to the row, so it is replayed in full."""

    position: int
    attempt_id: AttemptId = AttemptId("")


class StatusChanged(Value, frozen=True, tag_field="kind", tag="status_changed"):
    """The status changed, or a turn began or ended."""

    status: Status
    turn_id: TurnId
    stop_reason: StopReason | None = None
    last_error: ChatError | None = None
    archived: bool = False


class QueueEntry(Value, frozen=True):
    """One message of the queue, shortened to QUEUE_PREVIEW_CHARACTERS."""

    id: MessageId
    preview: str


def preview(parts: tuple[Part, ...]) -> str:
    """Return what the queue shows of a message: the beginning of its text."""
    words = "".join(
        part.text if isinstance(part, Text) else part.content
        for part in parts
        if isinstance(part, Text | FileReference)
    )
    return words[:QUEUE_PREVIEW_CHARACTERS]


class QueueChanged(Value, frozen=True, tag_field="kind", tag="queue_changed"):
    """The queue changed; carries all of it, head first."""

    entries: tuple[QueueEntry, ...]


class PendingCall(Value, frozen=True):
    """A client call that waits for its result."""

    id: ToolCallId
    name: str
    arguments: str
    created_at: Instant
    answered: bool = False


class ActionRequired(Value, frozen=True, tag_field="kind", tag="action_required"):
    """The client owes results, and can submit them now.

    Arguments have at most EVENT_PAYLOAD_BYTES_MAX together; those that do not fit are empty here:
    the message has them.
    """

    turn_id: TurnId
    calls: tuple[PendingCall, ...]
    deadline: Instant


class ActionResolution(StrEnum):
    """How an action was resolved."""

    SUBMITTED = "submitted"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ActionResolved(Value, frozen=True, tag_field="kind", tag="action_resolved"):
    """The client owes no results any more."""

    turn_id: TurnId
    resolution: ActionResolution


class RetryScheduled(Value, frozen=True, tag_field="kind", tag="retry_scheduled"):
    """A model call failed and will be tried again; closes its attempt."""

    attempt_id: AttemptId
    attempt_number: int
    delay_seconds: float
    retry_at: Instant
    error: ChatError
    turn_id: TurnId


class HistoryTruncated(Value, frozen=True, tag_field="kind", tag="history_truncated"):
    """Messages from this position on were removed by an edit."""

    first_removed_position: int


class CompactionOutcome(StrEnum):
    """How a compaction ended."""

    DONE = "done"
    #: The context is as it was.
    FAILED = "failed"


class CompactionFinished(
    Value, frozen=True, omit_defaults=True, tag_field="kind", tag="compaction_finished"
):
    """A compaction ended: the model's context begins at `boundary_position`."""

    source: CompactionSource
    boundary_position: int
    tokens_before: int | None = None
    #: An estimate.
    tokens_after: int | None = None
    outcome: CompactionOutcome = CompactionOutcome.DONE
    #: Of a failed one, which this event closes.
    attempt_id: AttemptId = AttemptId("")
    #: Shortened to SUMMARY_SHOWN_BYTES_MAX.
    summary: str = ""
    used_percent: float | None = None
    threshold_percent: float | None = None
    limit: int | None = None
    #: Why it failed.
    error: ChatError | None = None


class ChatUpdated(Value, frozen=True, tag_field="kind", tag="chat_updated"):
    """Fields changed; None means unchanged."""

    title: str | None = None
    model: str | None = None
    labels: dict[str, str] | None = None
    system_prompt: str | None = None
    tools: tuple[str, ...] | None = None


class SubagentChanged(Value, frozen=True, tag_field="kind", tag="subagent_changed"):
    """A child changed."""

    chat_id: ChatId
    status: Status
    title: str = ""
    call_id: ToolCallId = ToolCallId("")
    archived: bool = False
    deleted: bool = False


class ChatDeleted(Value, frozen=True, tag_field="kind", tag="chat_deleted"):
    """The chat was deleted; nothing follows."""


Event: TypeAlias = (
    MessageCommitted
    | StatusChanged
    | QueueChanged
    | ActionRequired
    | ActionResolved
    | RetryScheduled
    | HistoryTruncated
    | CompactionFinished
    | ChatUpdated
    | SubagentChanged
    | ChatDeleted
)

WATCHED: tuple[type[Event], ...] = (
    StatusChanged,
    ActionRequired,
    ActionResolved,
    ChatUpdated,
    SubagentChanged,
    ChatDeleted,
)
"""What a watcher of many chats is sent: what a list of chats shows, and what somebody must do."""


class LoggedEvent(Value, frozen=True):
    """One entry of a chat's log. `message` is the row that a MessageCommitted refers to."""

    sequence: int
    at: Instant
    event: Event
    message: Message | None = None


class Cursor(Value, frozen=True):
    """A position in what a stream sends; mirrors `chatd.v1.Cursor`."""

    sequence: int = 0
    attempt_id: AttemptId = AttemptId("")
    #: UTF-8 bytes of the attempt's canonical string.
    delta_offset: int = 0
    snapshot_unfinished: bool = False
