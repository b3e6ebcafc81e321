"""RPCs about a chat as a whole."""

from collections.abc import Iterator

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import CLIENT_TOOLS_BYTES_MAX
from chatd_server.domain.refusal import Violation
from chatd_server.ports.store import ChatPage
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.sizes import drop_parts_if_too_large, fill
from chatd_server.rpc.edge.table import Answer, Answers, Call


async def prepare_create(backend: Backend, request: pb.CreateChatRequest) -> None:
    """Check new schemas in a thread, unless they are too large to be checked at all."""
    schemas = [it.input_schema_json for it in request.tools]
    if sum(map(len, schemas)) <= CLIENT_TOOLS_BYTES_MAX:
        await backend.checks.learn(schemas)


def check_create(backend: Backend, request: pb.CreateChatRequest) -> Iterator[Violation]:
    """Yield what is wrong with a new chat beyond the contract's rules."""
    yield from backend.checks.new_chat(convert.chat_config_from(request))
    if request.HasField("message"):
        yield from backend.checks.message("message", convert.user_parts_from(request.message))
    elif request.HasField("options"):
        yield Violation("options", "needs a message: they are the choices for its turn")
    yield from backend.checks.options("options", convert.turn_options_from(request.options))


async def create_chat(
    backend: Backend, call: Call, request: pb.CreateChatRequest
) -> pb.CreateChatResponse:
    applied = await backend.chats.create(
        call.caller.owner_id,
        convert.chat_config_from(request),
        parts=convert.user_parts_from(request.message),
        options=convert.turn_options_from(request.options),
        request=call.request_key(request),
    )
    message = applied.reply.message
    response = pb.CreateChatResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        message=None if message is None else convert.message(applied.state.id, message),
    )
    drop_parts_if_too_large(response, response.message)
    return response


async def get_chat(backend: Backend, call: Call, request: pb.GetChatRequest) -> pb.GetChatResponse:
    state = await backend.chats.get(call.caller.owner_id, request.chat_id)
    level = backend.contexts.level(state)
    return pb.GetChatResponse(chat=convert.chat_with_context(state, level))


async def list_chats(
    backend: Backend, call: Call, request: pb.ListChatsRequest
) -> pb.ListChatsResponse:
    owner_id = call.caller.owner_id
    tokens = backend.tokens.of(
        owner_id,
        call.name,
        request.include_archived,
        sorted(request.labels.items()),
        sorted(request.statuses),
    )
    after_key = tokens.key(request.page_token, numbers=1)

    async def read(limit: int) -> ChatPage:
        return await backend.chats.page(
            owner_id,
            limit=limit,
            after_key=after_key,
            include_archived=request.include_archived,
            labels=dict(request.labels),
            statuses=convert.statuses_from(request.statuses),
        )

    response = pb.ListChatsResponse()
    next_key = await fill(response.chats, read, request.page_size, convert.chat, backend.clock)
    response.next_page_token = tokens.token(next_key)
    return response


async def interrupt_chat(
    backend: Backend, call: Call, request: pb.InterruptChatRequest
) -> pb.InterruptChatResponse:
    applied = await backend.chats.interrupt(
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


ANSWERS: Answers = {
    "CreateChat": Answer(
        unary=create_chat, prepare=prepare_create, check=check_create, is_about_a_chat=False
    ),
    "GetChat": Answer(unary=get_chat),
    "ListChats": Answer(unary=list_chats, is_about_a_chat=False),
    "InterruptChat": Answer(unary=interrupt_chat),
}
