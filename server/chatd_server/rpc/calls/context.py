"""RPCs of the model's context: summarise it, begin a new one."""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def compact_chat(
    backend: Backend, call: Call, request: pb.CompactChatRequest
) -> pb.CompactChatResponse:
    applied = await backend.contexts.compact(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    level = backend.contexts.level(applied.state)
    return pb.CompactChatResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        context=convert.context_level(level),
    )


async def clear_context(
    backend: Backend, call: Call, request: pb.ClearContextRequest
) -> pb.ClearContextResponse:
    applied = await backend.contexts.clear(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    level = backend.contexts.level(applied.state)
    return pb.ClearContextResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        context=convert.context_level(level),
    )


ANSWERS: Answers = {
    "CompactChat": Answer(unary=compact_chat),
    "ClearContext": Answer(unary=clear_context),
}
