"""How each implemented RPC is answered: the request as values, one use case, the response."""

from collections.abc import Awaitable, Callable, Iterator, MutableSequence, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from chatd.v1 import admin_service_pb2 as admin
from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import ChatConfig, ChatState
from chatd_server.domain.ids import ChatId
from chatd_server.domain.limits import (
    CLIENT_TOOLS_BYTES_MAX,
    PAGE_BYTES_MAX,
    PUBLISHED,
    RESPONSE_BYTES_MAX,
)
from chatd_server.domain.refusal import InvalidRequest, NotImplementedHere, Violation
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import ChatPage
from chatd_server.rpc import convert
from chatd_server.rpc.convert.slices import in_slices
from chatd_server.rpc.edge.dispatch import Call
from chatd_server.rpc.edge.paging import PageTokens, size_of
from chatd_server.service.chats import Chats
from chatd_server.service.checks import Checks
from chatd_server.service.log import Events
from chatd_server.service.messages import Messages
from chatd_server.service.tools import ToolResults

API_REVISION = 1
"""Rises with every addition to the contract."""

ACTION_TIMEOUT_SECONDS = 300.0
"""How long the service waits for client tools when the chat does not say."""

Wire = TypeVar("Wire", chat_pb2.Chat, tool_pb2.PendingAction)


class ServerFacts(msgspec.Struct, frozen=True):
    """What GetServerInfo says beside the limits."""

    version: str
    instance_id: str
    default_model: str
    heartbeat_seconds: float


class ServiceCalls:
    """Everything that ChatService and AdminService answer in one response."""

    def __init__(
        self,
        *,
        chats: Chats,
        messages: Messages,
        tool_results: ToolResults,
        events: Events,
        checks: Checks,
        tokens: PageTokens,
        facts: ServerFacts,
        clock: Clock,
    ) -> None:
        self._chats = chats
        self._messages = messages
        self._tool_results = tool_results
        self._events = events
        self._checks = checks
        self._tokens = tokens
        self._facts = facts
        self._clock = clock
        self.implemented: Sequence[str] = ()

    # --- chats ---------------------------------------------------------------------------

    async def prepare_create(self, request: pb.CreateChatRequest) -> None:
        """Look at new schemas beside the event loop, if they are not too large to be looked at."""
        schemas = [it.input_schema_json for it in request.tools]
        if sum(map(len, schemas)) <= CLIENT_TOOLS_BYTES_MAX:
            await self._checks.learn(schemas)

    def check_create(self, request: pb.CreateChatRequest) -> Iterator[Violation]:
        """Yield what is wrong with a new chat beyond the contract's rules."""
        _refuse_files(request.message)
        yield from self._checks.new_chat(_config_of(request))
        if request.HasField("message"):
            yield from self._checks.message("message", convert.user_parts_from(request.message))
        elif request.HasField("options"):
            yield Violation("options", "needs a message: they are the choices for its turn")
        if request.options.model:
            options = convert.turn_options_from(request.options)
            yield from self._checks.options("options", options)

    async def create_chat(self, call: Call, request: pb.CreateChatRequest) -> pb.CreateChatResponse:
        """Make a chat."""
        applied = await self._chats.create(
            call.caller.owner_id,
            _config_of(request),
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
        _bound(response, response.message)
        return response

    async def get_chat(self, call: Call, request: pb.GetChatRequest) -> pb.GetChatResponse:
        """Return a chat."""
        state = await self._chats.get(call.caller.owner_id, request.chat_id)
        return pb.GetChatResponse(chat=convert.chat(state))

    async def list_chats(self, call: Call, request: pb.ListChatsRequest) -> pb.ListChatsResponse:
        """List the caller's chats."""
        tokens = self._tokens.of(
            call.caller.owner_id,
            call.name,
            request.include_archived,
            sorted(request.labels.items()),
            sorted(request.statuses),
        )
        after_key = tokens.key(request.page_token, numbers=1)

        async def read(limit: int) -> ChatPage:
            return await self._chats.page(
                call.caller.owner_id,
                limit=limit,
                after_key=after_key,
                include_archived=request.include_archived,
                labels=dict(request.labels),
                statuses=convert.statuses_from(request.statuses),
            )

        response = pb.ListChatsResponse()
        next_key = await self._fill(response.chats, read, request.page_size, convert.chat)
        response.next_page_token = tokens.token(next_key)
        return response

    async def interrupt_chat(
        self, call: Call, request: pb.InterruptChatRequest
    ) -> pb.InterruptChatResponse:
        """Stop the open turn."""
        applied = await self._chats.interrupt(
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

    # --- messages ------------------------------------------------------------------------

    def check_send(self, request: pb.SendMessageRequest) -> Iterator[Violation]:
        """Yield what is wrong with a message beyond the contract's rules."""
        _refuse_files(request.message)
        yield from self._checks.message("message", convert.user_parts_from(request.message))
        if request.options.model:
            options = convert.turn_options_from(request.options)
            yield from self._checks.options("options", options)

    async def send_message(
        self, call: Call, request: pb.SendMessageRequest
    ) -> pb.SendMessageResponse:
        """Send a user's message."""
        applied = await self._messages.send(
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
            _bound(response, response.message)
        elif applied.reply.queued is not None:
            response.queued_message.CopyFrom(convert.queued_message(applied.reply.queued))
            _bound(response, response.queued_message)
        return response

    async def list_messages(
        self, call: Call, request: pb.ListMessagesRequest
    ) -> pb.ListMessagesResponse:
        """List messages in order."""
        owner_id = call.caller.owner_id
        tokens = self._tokens.of(owner_id, call.name, request.chat_id, request.after_position)
        try:
            key = tokens.key(request.page_token, numbers=1)
        except InvalidRequest:
            # A stranger's chat is not found, whatever else is wrong.
            await self._chats.get(owner_id, request.chat_id)
            raise
        page, more = await self._messages.page(
            owner_id,
            request.chat_id,
            after_position=request.after_position if key is None else int(key),
            limit=size_of(request.page_size),
        )
        last = str(page[-1].position) if more and page else None
        chat_id = ChatId(request.chat_id)
        shown = partial(convert.message, chat_id)
        response = pb.ListMessagesResponse(next_page_token=tokens.token(last))
        async for wire in in_slices(page, shown, self._clock):
            response.messages.append(wire)
        return response

    # --- client tools --------------------------------------------------------------------

    async def submit_tool_results(
        self, call: Call, request: pb.SubmitToolResultsRequest
    ) -> pb.SubmitToolResultsResponse:
        """Hand in results."""
        applied = await self._tool_results.submit(
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
        self, call: Call, request: pb.ListPendingActionsRequest
    ) -> pb.ListPendingActionsResponse:
        """List what the caller's chats wait for."""
        tokens = self._tokens.of(
            call.caller.owner_id, call.name, request.chat_id, sorted(request.tool_names)
        )
        if request.chat_id:
            await self._chats.get(call.caller.owner_id, request.chat_id)
        after_key = tokens.key(request.page_token, numbers=2)

        async def read(limit: int) -> ChatPage:
            return await self._tool_results.pending(
                call.caller.owner_id,
                limit=limit,
                after_key=after_key,
                chat_id=request.chat_id,
                tool_names=frozenset(request.tool_names),
            )

        response = pb.ListPendingActionsResponse()
        next_key = await self._fill(
            response.actions, read, request.page_size, convert.wanted_action
        )
        response.next_page_token = tokens.token(next_key)
        return response

    # --- the log -------------------------------------------------------------------------

    async def list_events(self, call: Call, request: pb.ListEventsRequest) -> pb.ListEventsResponse:
        """List durable events."""
        page = await self._events.page(
            call.caller.owner_id,
            request.chat_id,
            after=request.after_sequence,
            limit=size_of(request.page_size),
            wait_seconds=convert.seconds_of(request.wait),
        )
        chat_id = ChatId(request.chat_id)
        shown = partial(convert.event, chat_id)
        response = pb.ListEventsResponse(head_sequence=page.head_sequence)
        async for wire in in_slices(page.events, shown, self._clock):
            response.events.append(wire)
        return response

    # --- the server ----------------------------------------------------------------------

    async def get_server_info(
        self, _call: Call, _request: admin.GetServerInfoRequest
    ) -> admin.GetServerInfoResponse:
        """Say what this server is."""
        return admin.GetServerInfoResponse(
            version=self._facts.version,
            api_revision=API_REVISION,
            instance_id=self._facts.instance_id,
            implemented_rpcs=self.implemented,
            limits=[
                admin.Limit(name=it.name, value=it.value, unit=it.unit, reason=it.reason)
                for it in PUBLISHED
            ],
            default_model=self._facts.default_model,
            heartbeat_interval=convert.duration(self._facts.heartbeat_seconds),
        )

    async def _fill(
        self,
        page: MutableSequence[Wire],
        read: Callable[[int], Awaitable[ChatPage]],
        page_size: int,
        shown: Callable[[ChatState], Wire | None],
    ) -> str | None:
        """Fill a page with at most about PAGE_BYTES_MAX; return the key of the next one.

        One chat may hold 768 KiB of prompt and schemas, so a page that turns out too large is
        read once more with as many chats as fit; at least one.
        """
        limit = size_of(page_size)
        while True:
            found = await read(limit)
            size = fit = 0
            async for wire in in_slices(found.chats, shown, self._clock):
                size += 0 if wire is None else wire.ByteSize()
                if size > PAGE_BYTES_MAX and fit:
                    break
                fit += 1
                if wire is not None:
                    # One by one, because it is copied: all at once would take as long again.
                    page.append(wire)
            if fit == len(found.chats):
                return found.next_key
            limit = fit
            del page[:]


def _config_of(request: pb.CreateChatRequest) -> ChatConfig:
    timeout = ACTION_TIMEOUT_SECONDS
    if request.HasField("action_timeout"):
        timeout = convert.seconds_of(request.action_timeout)
    return ChatConfig(
        title=request.title,
        model=request.model,
        system_prompt=request.system_prompt,
        labels=dict(request.labels),
        tools=tuple(convert.tool_definition_from(it) for it in request.tools),
        action_timeout_seconds=timeout,
    )


def _bound(
    response: pb.CreateChatResponse | pb.SendMessageResponse,
    sent: message_pb2.Message | message_pb2.QueuedMessage,
) -> None:
    """Keep a response within RESPONSE_BYTES_MAX: the largest chat and the largest message do not
    fit together, and the caller has just sent the parts of the message.
    """
    if response.ByteSize() > RESPONSE_BYTES_MAX:
        sent.ClearField("parts")


def _refuse_files(message: message_pb2.UserMessage) -> None:
    if any(part.WhichOneof("kind") == "file" for part in message.parts):
        raise NotImplementedHere(
            "file parts are not implemented by this server yet; "
            "send the words of the file as a text part"
        )
