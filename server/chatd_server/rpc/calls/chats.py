"""RPCs about a chat as a whole."""

from collections.abc import Iterator
from itertools import chain

import msgspec

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import CLIENT_TOOLS_BYTES_MAX
from chatd_server.domain.refusal import Violation
from chatd_server.ports.store import ChatPage
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.sizes import drop_parts_if_too_large, fill
from chatd_server.rpc.edge.table import Answer, Answers, Call
from chatd_server.rpc.edge.validate import Rules

NEW_CHAT = Rules([pb.CreateChatRequest])
"""What the contract says of the fields of a new chat holds for an update, too."""


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
    if request.parent_tool_call_id and not request.parent_chat_id:
        yield Violation("parent_tool_call_id", "needs parent_chat_id: it is a call of that chat")


async def create_chat(
    backend: Backend, call: Call, request: pb.CreateChatRequest
) -> pb.CreateChatResponse:
    applied = await backend.chats.create(
        call.caller.owner_id,
        convert.chat_config_from(request),
        parts=convert.user_parts_from(request.message),
        options=convert.turn_options_from(request.options),
        parent_id=request.parent_chat_id,
        parent_call_id=request.parent_tool_call_id,
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
    return pb.GetChatResponse(chat=convert.chat(state), context=convert.context_level(level))


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
        request.parent_chat_id,
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
            parent_id=request.parent_chat_id,
        )

    response = pb.ListChatsResponse()
    next_key = await fill(response.chats, read, request.page_size, convert.chat, backend.clock)
    response.next_page_token = tokens.token(next_key)
    return response


async def prepare_update(backend: Backend, request: pb.UpdateChatRequest) -> None:
    """Check new schemas in a thread, unless they are not read or too large."""
    if "tools" not in convert.changed_fields(request):
        return
    schemas = [it.input_schema_json for it in request.chat.tools]
    if sum(map(len, schemas)) <= CLIENT_TOOLS_BYTES_MAX:
        await backend.checks.learn(schemas)


def check_update(backend: Backend, request: pb.UpdateChatRequest) -> Iterator[Violation]:
    """Yield what is wrong with the fields that are read, by the rules of a new chat."""
    for path in request.update_mask.paths:
        if path not in convert.CHANGEABLE:
            yield Violation(
                "update_mask",
                f"{path[:64]!r} is no field that can be changed; choose from "
                f"{', '.join(convert.CHANGEABLE)}",
            )
    wanted = convert.as_new_chat(request)
    violations = chain(
        NEW_CHAT.violations(wanted), backend.checks.new_chat(convert.chat_config_from(wanted))
    )
    for it in violations:
        yield msgspec.structs.replace(it, field=f"chat.{it.field}")


async def update_chat(
    backend: Backend, call: Call, request: pb.UpdateChatRequest
) -> pb.UpdateChatResponse:
    applied = await backend.chats.update(
        call.caller.owner_id,
        request.chat_id,
        convert.chat_changes_from(request),
        etag_version=convert.etag_version_from(request.etag),
        request=call.request_key(request),
    )
    return pb.UpdateChatResponse(chat=convert.chat(applied.state), sequence=applied.sequence)


async def archive_chat(
    backend: Backend, call: Call, request: pb.ArchiveChatRequest
) -> pb.ArchiveChatResponse:
    applied = await backend.chats.set_archived(
        call.caller.owner_id, request.chat_id, archived=True, request=call.request_key(request)
    )
    return pb.ArchiveChatResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        chat_count=applied.reply.chats,
    )


async def unarchive_chat(
    backend: Backend, call: Call, request: pb.UnarchiveChatRequest
) -> pb.UnarchiveChatResponse:
    applied = await backend.chats.set_archived(
        call.caller.owner_id, request.chat_id, archived=False, request=call.request_key(request)
    )
    return pb.UnarchiveChatResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        chat_count=applied.reply.chats,
    )


async def delete_chat(
    backend: Backend, call: Call, request: pb.DeleteChatRequest
) -> pb.DeleteChatResponse:
    applied = await backend.chats.delete(
        call.caller.owner_id, request.chat_id, request=call.request_key(request)
    )
    return pb.DeleteChatResponse(sequence=applied.sequence, chat_count=applied.reply.chats)


async def fork_chat(
    backend: Backend, call: Call, request: pb.ForkChatRequest
) -> pb.ForkChatResponse:
    applied = await backend.chats.fork(
        call.caller.owner_id,
        request.chat_id,
        message_id=request.message_id,
        title=request.title if request.HasField("title") else None,
        labels=dict(request.labels),
        request=call.request_key(request),
    )
    return pb.ForkChatResponse(chat=convert.chat(applied.state), sequence=applied.sequence)


ANSWERS: Answers = {
    "CreateChat": Answer(
        unary=create_chat, prepare=prepare_create, check=check_create, is_about_a_chat=False
    ),
    "GetChat": Answer(unary=get_chat),
    "ListChats": Answer(unary=list_chats, is_about_a_chat=False),
    "UpdateChat": Answer(unary=update_chat, prepare=prepare_update, check=check_update),
    "ArchiveChat": Answer(unary=archive_chat),
    "UnarchiveChat": Answer(unary=unarchive_chat),
    "DeleteChat": Answer(unary=delete_chat),
    "ForkChat": Answer(unary=fork_chat),
}
