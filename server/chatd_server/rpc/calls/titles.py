"""RPCs of titles: let a model write one."""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def regenerate_title(
    backend: Backend, call: Call, request: pb.RegenerateTitleRequest
) -> pb.RegenerateTitleResponse:
    applied = await backend.titles.regenerate(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    return pb.RegenerateTitleResponse(chat=convert.chat(applied.state), sequence=applied.sequence)


ANSWERS: Answers = {"RegenerateTitle": Answer(unary=regenerate_title, waits=True)}
