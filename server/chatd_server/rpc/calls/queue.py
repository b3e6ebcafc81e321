"""RPCs of the queue: list it, change its order, take a message out, start one."""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.convert.slices import in_slices
from chatd_server.rpc.edge.paging import size_of
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def list_queued_messages(
    backend: Backend, call: Call, request: pb.ListQueuedMessagesRequest
) -> pb.ListQueuedMessagesResponse:
    owner_id = call.caller.owner_id
    tokens = backend.tokens.of(owner_id, call.name, request.chat_id)
    queue = await backend.queue.queued(owner_id, request.chat_id)
    key = tokens.key(request.page_token, numbers=1)
    # The queue has no positions that last: a token says how many messages were shown.
    first = 0 if key is None else max(0, int(key))
    page = queue[first : first + size_of(request.page_size)]
    response = pb.ListQueuedMessagesResponse()
    size = 0
    async for wire in in_slices(page, convert.queued_message, backend.clock):
        size += wire.ByteSize()
        if size > PAGE_BYTES_MAX and response.queued_messages:
            break
        response.queued_messages.append(wire)
    shown = first + len(response.queued_messages)
    response.next_page_token = tokens.token(str(shown) if shown < len(queue) else None)
    return response


async def delete_queued_message(
    backend: Backend, call: Call, request: pb.DeleteQueuedMessageRequest
) -> pb.DeleteQueuedMessageResponse:
    applied = await backend.queue.delete(
        call.caller.owner_id,
        request.chat_id,
        request.message_id,
        request=call.request_key(request),
    )
    return pb.DeleteQueuedMessageResponse(
        chat=convert.chat(applied.state), sequence=applied.sequence
    )


async def promote_queued_message(
    backend: Backend, call: Call, request: pb.PromoteQueuedMessageRequest
) -> pb.PromoteQueuedMessageResponse:
    applied = await backend.queue.promote(
        call.caller.owner_id,
        request.chat_id,
        request.message_id,
        request=call.request_key(request),
    )
    return pb.PromoteQueuedMessageResponse(
        chat=convert.chat(applied.state), sequence=applied.sequence
    )


async def reorder_queued_messages(
    backend: Backend, call: Call, request: pb.ReorderQueuedMessagesRequest
) -> pb.ReorderQueuedMessagesResponse:
    applied = await backend.queue.reorder(
        call.caller.owner_id,
        request.chat_id,
        request.message_ids,
        request=call.request_key(request),
    )
    return pb.ReorderQueuedMessagesResponse(
        chat=convert.chat(applied.state), sequence=applied.sequence
    )


ANSWERS: Answers = {
    "ListQueuedMessages": Answer(unary=list_queued_messages),
    "DeleteQueuedMessage": Answer(unary=delete_queued_message),
    "PromoteQueuedMessage": Answer(unary=promote_queued_message),
    "ReorderQueuedMessages": Answer(unary=reorder_queued_messages),
}
