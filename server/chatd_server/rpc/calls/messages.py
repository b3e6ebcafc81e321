"""RPCs of messages: send one, with or without following its turn, replace one, list them."""

from collections.abc import Iterator
from functools import partial

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import ChatId
from chatd_server.domain.message import Visibility
from chatd_server.domain.refusal import InvalidRequest, Violation
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.convert.slices import in_slices
from chatd_server.rpc.edge.paging import size_of
from chatd_server.rpc.edge.sizes import drop_parts_if_too_large
from chatd_server.rpc.edge.table import Answer, Answers, Call
from chatd_server.rpc.streams.run_turn import run_turn


def check_message(
    backend: Backend,
    request: pb.SendMessageRequest | pb.RunTurnRequest | pb.EditMessageRequest,
) -> Iterator[Violation]:
    """Yield what is wrong with a message beyond the contract's rules."""
    yield from backend.checks.message("message", convert.user_parts_from(request.message))
    yield from backend.checks.options("options", convert.turn_options_from(request.options))


async def send_message(
    backend: Backend, call: Call, request: pb.SendMessageRequest
) -> pb.SendMessageResponse:
    applied = await backend.messages.send(
        call.caller.owner_id,
        request.chat_id,
        convert.user_parts_from(request.message),
        options=convert.turn_options_from(request.options),
        busy=convert.busy_from(request.busy_behavior),
        expected_turn_id=request.expected_turn_id,
        request=call.request_key(request),
    )
    response = pb.SendMessageResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        interrupted=applied.reply.interrupted,
    )
    if applied.reply.message is not None:
        wire = convert.message(applied.state.id, applied.reply.message)
        response.message.CopyFrom(wire)
        drop_parts_if_too_large(response, response.message)
    elif applied.reply.queued is not None:
        response.queued_message.CopyFrom(convert.queued_message(applied.reply.queued))
        drop_parts_if_too_large(response, response.queued_message)
    return response


async def edit_message(
    backend: Backend, call: Call, request: pb.EditMessageRequest
) -> pb.EditMessageResponse:
    applied = await backend.messages.edit(
        call.caller.owner_id,
        request.chat_id,
        request.message_id,
        convert.user_parts_from(request.message),
        options=convert.turn_options_from(request.options),
        request=call.request_key(request),
    )
    message = applied.reply.message
    response = pb.EditMessageResponse(
        chat=convert.chat(applied.state),
        sequence=applied.sequence,
        message=None if message is None else convert.message(applied.state.id, message),
    )
    drop_parts_if_too_large(response, response.message)
    return response


async def list_messages(
    backend: Backend, call: Call, request: pb.ListMessagesRequest
) -> pb.ListMessagesResponse:
    owner_id = call.caller.owner_id
    tokens = backend.tokens.of(owner_id, call.name, request.chat_id, request.after_position)
    try:
        key = tokens.key(request.page_token, numbers=1)
    except InvalidRequest:
        # The chat of another owner is not found, whatever else is wrong with the request.
        await backend.chats.get(owner_id, request.chat_id)
        raise
    page, more = await backend.messages.page(
        owner_id,
        request.chat_id,
        after_position=request.after_position if key is None else int(key),
        limit=size_of(request.page_size),
    )
    last = str(page[-1].position) if more and page else None
    if request.omit_model_messages:
        page = [it for it in page if it.visibility is not Visibility.MODEL]
    shown = partial(convert.message, ChatId(request.chat_id))
    response = pb.ListMessagesResponse(next_page_token=tokens.token(last))
    async for wire in in_slices(page, shown, backend.clock):
        response.messages.append(wire)
    return response


ANSWERS: Answers = {
    "SendMessage": Answer(unary=send_message, check=check_message),
    "RunTurn": Answer(stream=run_turn, check=check_message),
    "EditMessage": Answer(unary=edit_message, check=check_message),
    "ListMessages": Answer(unary=list_messages),
}
