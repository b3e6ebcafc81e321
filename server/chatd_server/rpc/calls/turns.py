"""RPCs of turns: stop the open one, try the failed one again."""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def interrupt_chat(
    backend: Backend, call: Call, request: pb.InterruptChatRequest
) -> pb.InterruptChatResponse:
    applied = await backend.turns.interrupt(
        call.caller.owner_id,
        request.chat_id,
        expected_turn_id=request.expected_turn_id,
        request=call.request_key(request),
    )
    return pb.InterruptChatResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        interrupted=applied.reply.interrupted,
    )


async def retry_turn(
    backend: Backend, call: Call, request: pb.RetryTurnRequest
) -> pb.RetryTurnResponse:
    applied = await backend.turns.retry(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    return pb.RetryTurnResponse(chat=convert.chat(applied.state), sequence=applied.sequence)


ANSWERS: Answers = {
    "InterruptChat": Answer(unary=interrupt_chat),
    "RetryTurn": Answer(unary=retry_turn),
}
