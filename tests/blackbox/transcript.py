"""The responses of a stream, one short line each, for the report of a violation."""

from collections import deque

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2
from tests.blackbox.waits import now

LINES_MAX = 400
TEXT_MAX = 48


class Transcript:
    """The newest lines of one subscriber."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._began = now()
        self._lines: deque[str] = deque(maxlen=LINES_MAX)

    def note(self, line: str) -> None:
        """Add a line."""
        self._lines.append(f"{now() - self._began:9.3f} {line}")

    def response(self, response: chat_service_pb2.SubscribeResponse) -> None:
        """Add a response."""
        self.note(f"{at(response.cursor):<34} {said(response.event)}")

    def __str__(self) -> str:
        return "\n".join([f"--- {self.name}", *self._lines])


def at(cursor: chat_pb2.Cursor) -> str:
    """Format a cursor briefly."""
    inside = f" {short(cursor.attempt_id)}+{cursor.delta_offset}" if cursor.attempt_id else ""
    return f"[{cursor.sequence}{inside}{' unfinished' if cursor.snapshot_unfinished else ''}]"


def said(event: event_pb2.ChatEvent) -> str:
    """Format an event briefly."""
    kind = event.WhichOneof("event") or "?"
    number = f"{event.sequence} " if event.sequence else ""
    return f"{number}{kind} {_detail(kind, event)}".rstrip()


def _detail(kind: str, event: event_pb2.ChatEvent) -> str:
    match kind:
        case "snapshot":
            chat = event.snapshot.chat
            return f"{chat_pb2.ChatStatus.Name(chat.status)[12:]} head {chat.head_sequence}"
        case "snapshot_messages":
            found = event.snapshot_messages.messages
            return ", ".join(f"{m.position}:{m.role}:{short(m.attempt_id)}" for m in found)
        case "status_changed":
            changed = event.status_changed
            why = chat_pb2.StopReason.Name(changed.stop_reason)[12:]
            status = chat_pb2.ChatStatus.Name(changed.status)[12:]
            return f"{status} turn {short(changed.turn_id)} {why if changed.stop_reason else ''}"
        case "message_committed":
            committed = event.message_committed
            message = committed.message
            where = f"position {message.position} role {message.role}"
            text = _shortened(str(message.parts))
            return f"{where} closes {short(committed.attempt_id) or 'none'}: {text}"
        case "message_part":
            piece = event.message_part
            words = _shortened(str(getattr(piece, piece.WhichOneof("piece") or "part")))
            return (
                f"{short(piece.attempt_id)}+{piece.delta_offset} part {piece.part_index}: {words}"
            )
        case "heartbeat":
            return f"head {event.heartbeat.head_sequence}"
        case _:
            return _shortened(str(getattr(event, kind, "")))


def short(identity: str) -> str:
    """Shorten an id to its end: the beginnings are times, and similar."""
    return identity[-6:]


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= TEXT_MAX else f"{flat[:TEXT_MAX]}... ({len(flat)})"
