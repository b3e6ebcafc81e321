"""The few contract messages that floor and naive server send, for the same client."""

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb

SERVICE = "chatd.v1.ChatService"


def text(attempt_id: str, offset: int, piece: str) -> pb.SubscribeResponse:
    """Return a piece of an answer."""
    return pb.SubscribeResponse(
        event=event_pb2.ChatEvent(
            message_part=event_pb2.MessagePart(
                attempt_id=attempt_id, delta_offset=offset, text=piece
            )
        ),
        cursor=chat_pb2.Cursor(sequence=1, attempt_id=attempt_id, delta_offset=offset),
    )


def caught_up() -> pb.SubscribeResponse:
    """Return the caught_up event of a stream."""
    return pb.SubscribeResponse(event=event_pb2.ChatEvent(caught_up=event_pb2.CaughtUp()))


def finished() -> pb.SubscribeResponse:
    """Return the end of a turn."""
    changed = event_pb2.StatusChanged(
        status=chat_pb2.CHAT_STATUS_WAITING, stop_reason=chat_pb2.STOP_REASON_END_TURN
    )
    return pb.SubscribeResponse(event=event_pb2.ChatEvent(sequence=2, status_changed=changed))


def logged(sequence: int, message_id: str, text: str) -> pb.SubscribeResponse:
    """Return an event of the log."""
    event = event_pb2.ChatEvent(sequence=sequence)
    message = event.message_committed.message
    message.message_id = message_id
    message.parts.add().text.text = text
    return pb.SubscribeResponse(event=event, cursor=chat_pb2.Cursor(sequence=sequence))


def user_text(request: pb.SendMessageRequest) -> str:
    return request.message.parts[0].text.text
