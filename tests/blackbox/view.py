"""The chat as a client sees it: the fold of all responses of its streams."""

from dataclasses import dataclass, field, replace

from chatd.v1 import chat_pb2, error_pb2, event_pb2, message_pb2, tool_pb2
from tests.blackbox.preview import Preview

SETTLED = {chat_pb2.CHAT_STATUS_WAITING, chat_pb2.CHAT_STATUS_ERROR}


@dataclass
class ChatView:
    """What a client knows about a chat. Give it every event, in the order of the stream."""

    status: chat_pb2.ChatStatus.ValueType = chat_pb2.CHAT_STATUS_UNSPECIFIED
    turn_id: str = ""
    stop_reason: chat_pb2.StopReason.ValueType = chat_pb2.STOP_REASON_UNSPECIFIED
    last_error: error_pb2.ChatError | None = None
    messages: dict[int, message_pb2.Message] = field(default_factory=dict)
    """By position."""
    queue: list[event_pb2.QueueEntry] = field(default_factory=list)
    action: tool_pb2.PendingAction | None = None
    preview: Preview | None = None

    def copy(self) -> "ChatView":
        """Return an independent copy. Messages never change, so they are shared."""
        preview = self.preview and self.preview.copy()
        return replace(self, messages=dict(self.messages), queue=list(self.queue), preview=preview)

    def fold(self, event: event_pb2.ChatEvent) -> None:
        """Fold one event. Pieces go to `preview`, which its owner feeds."""
        match event.WhichOneof("event"):
            case "snapshot":
                self._fold_snapshot(event.snapshot)
            case "snapshot_messages":
                self.messages.update({m.position: m for m in event.snapshot_messages.messages})
            case "message_committed":
                message = event.message_committed.message
                self.messages[message.position] = message
                if self.preview and self.preview.attempt_id == event.message_committed.attempt_id:
                    self.preview = None
            case "status_changed":
                self._fold_status(event.status_changed)
            case "queue_changed":
                self.queue = list(event.queue_changed.entries)
            case "action_required":
                self.action = event.action_required.action
            case "action_resolved":
                self.action = None
            case "history_truncated":
                first = event.history_truncated.first_removed_position
                self.messages = {at: m for at, m in self.messages.items() if at < first}
            case "preview_reset":
                self.preview = None
            case _:
                """Not visible in this view, or a kind from a later contract."""

    def _fold_snapshot(self, snapshot: event_pb2.Snapshot) -> None:
        chat = snapshot.chat
        self.status, self.turn_id, self.stop_reason = chat.status, chat.turn_id, chat.stop_reason
        self.last_error = chat.last_error if chat.HasField("last_error") else None
        self.queue = list(snapshot.queue)
        self.action = snapshot.pending_action if snapshot.HasField("pending_action") else None
        self.messages, self.preview = {}, None

    def _fold_status(self, changed: event_pb2.StatusChanged) -> None:
        self.status, self.stop_reason = changed.status, changed.stop_reason
        # The event also names a turn that ended; a chat has a turn only while one is open.
        ended = changed.stop_reason != chat_pb2.STOP_REASON_UNSPECIFIED
        self.turn_id = "" if ended else changed.turn_id
        self.last_error = changed.last_error if changed.HasField("last_error") else None

    def facts(self) -> dict[str, object]:
        """Return what must be equal for all readers at the same sequence."""
        return {
            "status": chat_pb2.ChatStatus.Name(self.status),
            "turn_id": self.turn_id,
            "stop_reason": chat_pb2.StopReason.Name(self.stop_reason),
            "last_error": self.last_error,
            "messages": list(self.messages.values()),
            "queue": self.queue,
            "action": self.action,
        }
