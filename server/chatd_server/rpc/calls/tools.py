"""RPCs of client tools: what chats wait for, and the results."""

from collections.abc import Iterator

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.refusal import NotImplementedHere, Violation
from chatd_server.ports.store import ChatPage
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.sizes import fill
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def submit_tool_results(
    backend: Backend, call: Call, request: pb.SubmitToolResultsRequest
) -> pb.SubmitToolResultsResponse:
    applied = await backend.tools.submit(
        call.caller.owner_id,
        request.chat_id,
        tuple(convert.submitted_result_from(it) for it in request.results),
        allow_partial=request.allow_partial,
        request=call.request_key(request),
    )
    return pb.SubmitToolResultsResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        missing_tool_call_ids=applied.reply.missing,
    )


async def list_pending_actions(
    backend: Backend, call: Call, request: pb.ListPendingActionsRequest
) -> pb.ListPendingActionsResponse:
    owner_id = call.caller.owner_id
    tokens = backend.tokens.of(owner_id, call.name, request.chat_id, sorted(request.tool_names))
    if request.chat_id:
        await backend.chats.get(owner_id, request.chat_id)
    after_key = tokens.key(request.page_token, numbers=2)

    async def read(limit: int) -> ChatPage:
        return await backend.tools.pending(
            owner_id,
            limit=limit,
            after_key=after_key,
            chat_id=request.chat_id,
            tool_names=frozenset(request.tool_names),
        )

    response = pb.ListPendingActionsResponse()
    next_key = await fill(
        response.actions, read, request.page_size, convert.wanted_action, backend.clock
    )
    response.next_page_token = tokens.token(next_key)
    return response


def check_submit(_backend: Backend, request: pb.SubmitToolResultsRequest) -> Iterator[Violation]:
    """Raises NotImplementedHere."""
    if any(it.files for it in request.results):
        raise NotImplementedHere(
            "files in results are not implemented by this server yet; send their content as text"
        )
    yield from ()


ANSWERS: Answers = {
    "SubmitToolResults": Answer(unary=submit_tool_results, check=check_submit),
    "ListPendingActions": Answer(unary=list_pending_actions, is_about_a_chat=False),
}
