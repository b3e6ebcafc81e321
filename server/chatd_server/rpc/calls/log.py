"""RPCs that read logs: of a chat, as a stream or in pages; of all chats, as a stream."""

from functools import partial

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import ChatId
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.convert.slices import in_slices
from chatd_server.rpc.edge.paging import size_of
from chatd_server.rpc.edge.table import Answer, Answers, Call
from chatd_server.rpc.streams.subscribe import subscribe
from chatd_server.rpc.streams.watch import watch_chats


async def list_events(
    backend: Backend, call: Call, request: pb.ListEventsRequest
) -> pb.ListEventsResponse:
    page = await backend.log.page(
        call.caller.owner_id,
        request.chat_id,
        after=request.after_sequence,
        limit=size_of(request.page_size),
        wait_seconds=convert.seconds_of(request.wait),
    )
    shown = partial(convert.event, ChatId(request.chat_id))
    response = pb.ListEventsResponse(head_sequence=page.head_sequence)
    async for wire in in_slices(page.events, shown, backend.clock):
        response.events.append(wire)
    return response


ANSWERS: Answers = {
    "Subscribe": Answer(stream=subscribe),
    "WatchChats": Answer(stream=watch_chats, is_about_a_chat=False),
    "ListEvents": Answer(unary=list_events, waits=True),
}
