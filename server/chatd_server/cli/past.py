"""Errors of earlier turns: the log has them, the messages do not."""

from chatd.v1 import chat_service_pb2, error_pb2
from chatd_client import Client, StreamLost

_PAGE = 200


async def failed_turns(client: Client, chat_id: str) -> dict[str, error_pb2.ChatError]:
    """Return the errors by turn id, as far back as the server keeps its log."""
    found: dict[str, error_pb2.ChatError] = {}
    after = 0
    while True:
        request = chat_service_pb2.ListEventsRequest(
            chat_id=chat_id, after_sequence=after, page_size=_PAGE
        )
        try:
            page = await client.call(client.chats.ListEvents, request)
        except StreamLost as lost:  # the server's retention has dropped the first events
            oldest = int(lost.metadata.get("oldest_sequence", 0))
            if oldest - 1 <= after:
                return found
            after = oldest - 1
            continue
        for event in page.events:
            after = event.sequence
            if event.status_changed.HasField("last_error"):
                found[event.status_changed.turn_id] = event.status_changed.last_error
        if not page.events or after >= page.head_sequence:
            return found
