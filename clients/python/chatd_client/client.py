"""The asynchronous client: one channel, one key, and a handle for each chat."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message as ProtoMessage

from chatd.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    chat_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    message_pb2,
    tool_pb2,
)
from chatd_client import clock
from chatd_client.connection import Endpoint, find_endpoint
from chatd_client.errors import ChatdError, PermissionDenied, from_rpc, may_try_again
from chatd_client.follow import Follower, Reconnect
from chatd_client.runner import ToolRunner
from chatd_client.tools import ClientTool
from chatd_client.turn import OwnTurn, ShownText, text_of

UNARY_SECONDS = 30.0
"""Deadline of one try of a unary call; a stream has none."""
UNARY_TRIES = 5
"""gRPC's own ceiling for retries; with our backoff a restart of the server is bridged."""

_Response = TypeVar("_Response", bound=ProtoMessage)


class Client:
    """Talks to one server. Use it as a context, or call `close`.

    Every write carries a request id, so a call that is tried again after a lost answer is done
    once. Errors are ChatdError's children.
    """

    def __init__(
        self,
        address: str | None = None,
        key: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        on_reconnect: Callable[[Reconnect], None] | None = None,
    ) -> None:
        self._endpoint = endpoint or find_endpoint(address, key)
        self._on_reconnect = on_reconnect
        self._channel = self._endpoint.channel()
        self.chats = chat_service_pb2_grpc.ChatServiceStub(self._channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; open streams end."""
        await self._channel.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where this client talks to."""
        return self._endpoint

    def chat(self, chat_id: str, tools: Iterable[ClientTool] = ()) -> "ChatHandle":
        """Return a handle; asks the server nothing. `tools` are functions of the chat's tools."""
        return ChatHandle(self, chat_id, tools)

    async def server_info(self) -> admin_service_pb2.GetServerInfoResponse:
        """Return what the server says of itself."""
        return await self.call(self.admin.GetServerInfo, admin_service_pb2.GetServerInfoRequest())

    async def create_chat(
        self,
        text: str = "",
        *,
        model: str = "",
        title: str = "",
        system_prompt: str = "",
        labels: Mapping[str, str] | None = None,
        tools: Iterable[ClientTool] = (),
        options: chat_pb2.TurnOptions | None = None,
        action_timeout_seconds: float | None = None,
    ) -> "ChatHandle":
        """Create a chat; with a text, its first turn begins at once."""
        known = tuple(tools)
        request = chat_service_pb2.CreateChatRequest(
            title=title,
            model=model,
            system_prompt=system_prompt,
            labels=dict(labels or {}),
            tools=[tool.definition for tool in known],
            options=options,
            message=user_message(text) if text else None,
        )
        if action_timeout_seconds is not None:
            request.action_timeout.FromMicroseconds(round(action_timeout_seconds * 1_000_000))
        response = await self.call(self.chats.CreateChat, request)
        return ChatHandle(self, response.chat.chat_id, known)

    async def list_chats(self, *, include_archived: bool = False) -> AsyncIterator[chat_pb2.Chat]:
        """Yield all chats of the caller, newest first."""
        request = chat_service_pb2.ListChatsRequest(include_archived=include_archived)
        while True:
            page = await self.call(self.chats.ListChats, request)
            for chat in page.chats:
                yield chat
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def pending_actions(self) -> AsyncIterator[tool_pb2.PendingAction]:
        """Yield what the caller's chats wait for, oldest first."""
        request = chat_service_pb2.ListPendingActionsRequest()
        while True:
            page = await self.call(self.chats.ListPendingActions, request)
            for action in page.actions:
                yield action
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def call(self, method: Callable[..., Awaitable[_Response]], request: Any) -> _Response:
        """Make one unary call, tried again while that may help. Raises ChatdError."""
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = str(uuid4())
        failures = 0
        while True:
            try:
                return await method(
                    request, metadata=self._endpoint.metadata, timeout=UNARY_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                failures += 1
                known = from_rpc(error)
                if failures == UNARY_TRIES or not may_try_again(error):
                    raise self._advised(known) from error
            await clock.pause(known.retry_seconds or clock.backoff_seconds(failures, most=3.0))

    def _advised(self, error: ChatdError) -> ChatdError:
        """Return the error in words for a user of this library."""
        if not isinstance(error, PermissionDenied) or self._endpoint.key:
            return error
        return PermissionDenied(
            "this client has no key: set CHATD_KEY, or set CHATD_HOME to the home folder of the "
            "server, which wrote root.key there at its first start",
            reason=error.reason,
        )

    def follower(
        self,
        request: chat_service_pb2.SubscribeRequest,
        cursor: chat_pb2.Cursor | None,
        failures_max: int | None,
    ) -> Follower:
        """Return what follows one chat; see ChatHandle.follow."""
        return Follower(
            self.chats,
            self._endpoint.metadata,
            request,
            on_reconnect=self._on_reconnect,
            failures_max=failures_max,
            cursor=cursor,
        )


class ChatHandle:
    """One chat of one client. `tools` are those that it answers by itself while it follows a turn.

    To send a message and get its answer: `ask` gives the text, `text` gives it as it comes, `run`
    gives every event. To go on after a restart of the program: `resume`.
    """

    def __init__(self, client: Client, chat_id: str, tools: Iterable[ClientTool] = ()) -> None:
        self._client = client
        self.id = chat_id
        self.tools = tuple(tools)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def get(self) -> chat_pb2.Chat:
        """Return the chat as it is."""
        request = chat_service_pb2.GetChatRequest(chat_id=self.id)
        return (await self._client.call(self._client.chats.GetChat, request)).chat

    async def send(
        self,
        text: str,
        *,
        busy: chat_pb2.BusyBehavior.ValueType = chat_pb2.BUSY_BEHAVIOR_QUEUE,
        options: chat_pb2.TurnOptions | None = None,
    ) -> chat_service_pb2.SendMessageResponse:
        """Send a message: it starts a turn, or is queued behind the open one."""
        request = chat_service_pb2.SendMessageRequest(
            chat_id=self.id, message=user_message(text), busy_behavior=busy, options=options
        )
        return await self._client.call(self._client.chats.SendMessage, request)

    async def interrupt(self, expected_turn_id: str = "") -> bool:
        """Stop the open turn and keep what it has; say whether one was cut."""
        request = chat_service_pb2.InterruptChatRequest(
            chat_id=self.id, expected_turn_id=expected_turn_id
        )
        return (await self._client.call(self._client.chats.InterruptChat, request)).interrupted

    async def messages(self) -> list[message_pb2.Message]:
        """Return all messages, in order."""
        request = chat_service_pb2.ListMessagesRequest(chat_id=self.id)
        messages: list[message_pb2.Message] = []
        while True:
            page = await self._client.call(self._client.chats.ListMessages, request)
            messages.extend(page.messages)
            if not page.next_page_token:
                return messages
            request.page_token = page.next_page_token

    async def pending_action(self) -> tool_pb2.PendingAction | None:
        """Return what the chat waits for, or None when it waits for nothing."""
        request = chat_service_pb2.ListPendingActionsRequest(chat_id=self.id)
        page = await self._client.call(self._client.chats.ListPendingActions, request)
        return page.actions[0] if page.actions else None

    async def submit_tool_results(
        self,
        results: Iterable[tool_pb2.ToolResultInput],
        *,
        allow_partial: bool = False,
        request_id: str = "",
    ) -> chat_service_pb2.SubmitToolResultsResponse:
        """Hand in one result for each pending call, or for some of them with `allow_partial`.

        Give a UUID as `request_id` to repeat it safely.
        """
        request = chat_service_pb2.SubmitToolResultsRequest(
            chat_id=self.id, results=results, allow_partial=allow_partial, request_id=request_id
        )
        return await self._client.call(self._client.chats.SubmitToolResults, request)

    def follow(
        self,
        *,
        cursor: chat_pb2.Cursor | None = None,
        until: chat_service_pb2.SubscribeUntil.ValueType = chat_service_pb2.SUBSCRIBE_UNTIL_FOREVER,
        include_deltas: bool = True,
        failures_max: int | None = None,
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Yield what happened and what happens, each thing once, across cuts of the stream.

        Without a cursor a snapshot comes first. Each response carries the cursor to store.
        """
        request = chat_service_pb2.SubscribeRequest(
            chat_id=self.id, until=until, include_deltas=include_deltas
        )
        return self._client.follower(request, cursor, failures_max).responses()

    async def ask(
        self,
        text: str,
        *,
        busy: chat_pb2.BusyBehavior.ValueType = chat_pb2.BUSY_BEHAVIOR_QUEUE,
        options: chat_pb2.TurnOptions | None = None,
    ) -> str:
        """Send a message and return the text of its turn's last answer. Raises as `text` does."""
        turn, cursor = await self._sent(text, busy, options)
        answer = ""
        async with aclosing(self._settling(cursor, include_deltas=False)) as responses:
            async for response in responses:
                turn.apply(response.event)
                message = response.event.message_committed.message
                if turn.is_open and message.role == message_pb2.ROLE_ASSISTANT:
                    answer = text_of(message)
                if turn.is_over:
                    break
        turn.check_over()
        return answer

    async def text(
        self,
        text: str,
        *,
        busy: chat_pb2.BusyBehavior.ValueType = chat_pb2.BUSY_BEHAVIOR_QUEUE,
        options: chat_pb2.TurnOptions | None = None,
    ) -> AsyncGenerator[str, None]:
        """Send a message and yield the text of its turn as it comes, to be shown as it is.

        What was yielded cannot be taken back. So when an answer breaks off and the model is asked
        again, a `Voided` piece comes first: it says so in words, and the answer's text so far is
        void. Between two answers of the turn stands a blank line. `ask` has neither.

        Raises TurnFailed, Conflict when results of client tools are owed that this handle has no
        tools for, and NotFound when the chat is deleted.
        """
        turn, cursor = await self._sent(text, busy, options)
        shown = ShownText()
        async with aclosing(self._settling(cursor)) as responses:
            async for response in responses:
                turn.apply(response.event)
                if turn.is_over:
                    break
                if turn.is_open:
                    for piece in shown.pieces(response.event):
                        yield piece
        turn.check_over()

    async def run(
        self,
        text: str,
        *,
        busy: chat_pb2.BusyBehavior.ValueType = chat_pb2.BUSY_BEHAVIOR_QUEUE,
        options: chat_pb2.TurnOptions | None = None,
        raise_on_error: bool = True,
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Send a message and yield all that follows until the chat has settled.

        Calls of this handle's tools are answered on the way; without tools the stream also ends
        when the client owes results. When everything was yielded, raises TurnFailed if the
        message's turn failed, or one before it that the message still waits for; NotFound if the
        chat was deleted. With `raise_on_error=False` only the events say so.
        """
        turn, cursor = await self._sent(text, busy, options)
        async with aclosing(self._settling(cursor)) as responses:
            async for response in responses:
                turn.apply(response.event)
                yield response
        failure = turn.failure()
        if raise_on_error and failure is not None:
            raise failure

    def resume(
        self, cursor: chat_pb2.Cursor | None = None, *, include_deltas: bool = True
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Yield all that follows a stored cursor until the chat has settled: the rest of a `run`.

        Calls of this handle's tools are answered as in `run`, also those that were asked for before
        the cursor. Without a cursor a snapshot comes first. A failed turn is an event among others.
        """
        return self._settling(cursor, include_deltas=include_deltas)

    async def _sent(
        self,
        text: str,
        busy: chat_pb2.BusyBehavior.ValueType,
        options: chat_pb2.TurnOptions | None,
    ) -> tuple[OwnTurn, chat_pb2.Cursor]:
        """Send a message; return its turn, and a cursor from before the message."""
        before = (await self.get()).head_sequence
        sent = await self.send(text, busy=busy, options=options)
        message_id = sent.message.message_id or sent.queued_message.message_id
        return OwnTurn(message_id), chat_pb2.Cursor(sequence=before)

    def _settling(
        self, cursor: chat_pb2.Cursor | None, *, include_deltas: bool = True
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Follow until the chat has settled, or owes what this handle has no tools for."""
        if self.tools:
            return ToolRunner(self).follow(
                cursor=cursor,
                until=chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED,
                include_deltas=include_deltas,
            )
        return self.follow(
            cursor=cursor,
            until=chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED,
            include_deltas=include_deltas,
        )


def user_message(text: str) -> message_pb2.UserMessage:
    """Return a user's message of one text."""
    part = message_pb2.UserPart(text=message_pb2.UserText(text=text))
    return message_pb2.UserMessage(parts=[part])
