"""RPCs of the model's context: summarise it, begin a new one."""

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.ports.store import Applied
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def compact_chat(
    backend: Backend, call: Call, request: pb.CompactChatRequest
) -> pb.CompactChatResponse:
    applied = await backend.contexts.compact(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    return pb.CompactChatResponse(chat=_chat(backend, applied), sequence=applied.sequence)


async def clear_context(
    backend: Backend, call: Call, request: pb.ClearContextRequest
) -> pb.ClearContextResponse:
    applied = await backend.contexts.clear(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    return pb.ClearContextResponse(chat=_chat(backend, applied), sequence=applied.sequence)


def _chat(backend: Backend, applied: Applied) -> chat_pb2.Chat:
    return convert.chat_with_context(applied.state, backend.contexts.level(applied.state))


ANSWERS: Answers = {
    "CompactChat": Answer(unary=compact_chat),
    "ClearContext": Answer(unary=clear_context),
}
