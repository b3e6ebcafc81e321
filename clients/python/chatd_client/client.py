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
    tool_pb2,
)
from chatd_client import clock
from chatd_client.acts import user_message
from chatd_client.chat import ChatHandle
from chatd_client.connection import Endpoint, find_endpoint
from chatd_client.errors import (
    ChatdError,
    PermissionDenied,
    from_rpc,
    may_try_again,
    no_server,
    of_unicode,
)
from chatd_client.follow import Follower, Reconnect
from chatd_client.tools import ClientTool, given

UNARY_SECONDS = 30.0
"""Deadline of one try of a unary call; a stream has none."""
RETRY_SECONDS = 10.0
"""How long a unary call is retried by default: a restart of a server takes a few seconds."""
PAUSE_SECONDS_MAX = 1.0
"""Longest wait between two tries, so that a server that is back is found soon."""

_NO_ANSWER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""Codes of grpc itself for a server that was not reached or did not answer."""

_Response = TypeVar("_Response", bound=ProtoMessage)


class Client:
    """Talks to one server. Use it as a context (`async with Client() as client`), or call `close`.

    `address` is "host:port" and `key` an API key; what is left out comes from the environment or
    from the home of a server on this machine, as `find_endpoint` says. `endpoint` says both at
    once, and TLS. `on_reconnect` is called before each wait for a stream that was cut. Raises
    InvalidRequest for an invalid address, PermissionDenied for a key that is empty or not an API
    key.

    A call is tried for `retry_seconds` while the network fails or the server asks to wait, so that
    it bridges a restart of the server; 0 means one try. One try takes at most 30 seconds. Streams
    have their own rule, see `ChatHandle.follow`.

    Every write carries a request id, so a call that is tried again after a lost answer is done
    once. To repeat a write after a crash of the program as well, give it a `request_id` of your
    own, a UUID: the same id with the same request is done once in 24 hours, and gets the response
    of the first time.

    Every method that calls the server can raise InvalidRequest (a value breaks a rule; `violations`
    names each), PermissionDenied (no key, or a wrong one), Conflict with the reason
    REQUEST_ID_REUSED, NotImplementedByServer, and Unavailable after the last try.

    `chats` and `admin` are the generated stubs, for RPCs without a method here; see `call`.
    """

    def __init__(
        self,
        address: str | None = None,
        key: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        on_reconnect: Callable[[Reconnect], None] | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        if not retry_seconds >= 0:
            raise ValueError(f"retry_seconds is {retry_seconds}: give 0 or more")
        self._endpoint = endpoint or find_endpoint(address, key)
        self._on_reconnect = on_reconnect
        self._retry_seconds = retry_seconds
        self._clock = clock.Clock()
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
        """Close the connection; open streams end. The turns of the chats go on."""
        await self._channel.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where this client talks to, and with which key."""
        return self._endpoint

    def chat(self, chat_id: str, tools: Iterable[ClientTool] = ()) -> ChatHandle:
        """Return a handle of the chat with the UUID `chat_id`; asks the server nothing.

        `tools` are the functions of the tools that the chat was created with. Raises TypeError for
        anything that is not a tool, and for an id that is not a str. If the chat does not exist,
        using the handle raises NotFound.
        """
        if not isinstance(chat_id, str):
            raise TypeError(f"chat_id is {chat_id!r}: give the id of a chat, a str")
        return ChatHandle(self, chat_id, tools)

    async def server_info(self) -> admin_service_pb2.GetServerInfoResponse:
        """Return what the server says of itself: version, limits, default model. Needs no key."""
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
        parent: str = "",
        parent_tool_call: str = "",
        request_id: str = "",
    ) -> ChatHandle:
        """Create a chat and return its handle; with a `text`, its first turn begins at once.

        `model` is "provider/model", `title` has at most 200 bytes, `system_prompt` 256 KiB; empty
        means the server's default, or none. `labels` are at most 64 words of yours to find the
        chat by. `tools` are functions under `@tool`: the model may call them, and this handle
        answers the calls. `options` are for the first turn, and refused without a text.
        `action_timeout_seconds` is how long the chat waits for results of tools, from 1 second to
        7 days; None means 5 minutes. `parent` is the id of a root chat, of which the new one is a
        child; with `parent_tool_call`, the id of the call in the parent that creates it, the same
        call finds the same child. With a `request_id` that was used before, the handle is of the
        chat of then.

        Raises TypeError for anything that is not a tool, and for a label that is not a str;
        InvalidRequest, for example if the model does not exist; NotFound and Conflict if the parent
        does not or is archived.
        """
        known = given(tools)
        with of_unicode():
            request = chat_service_pb2.CreateChatRequest(
                request_id=request_id,
                title=title,
                model=model,
                system_prompt=system_prompt,
                labels=_checked(labels),
                tools=[tool.definition for tool in known],
                options=options,
                message=user_message(text) if text else None,
                parent_chat_id=parent,
                parent_tool_call_id=parent_tool_call,
            )
        if action_timeout_seconds is not None:
            request.action_timeout.FromMicroseconds(round(action_timeout_seconds * 1_000_000))
        response = await self.call(self.chats.CreateChat, request)
        return ChatHandle(self, response.chat.chat_id, known)

    async def list_chats(
        self,
        *,
        include_archived: bool = False,
        labels: Mapping[str, str] | None = None,
        statuses: Iterable[chat_pb2.ChatStatus.ValueType] = (),
        parent: str = "",
    ) -> AsyncIterator[chat_pb2.Chat]:
        """Yield the caller's root chats, or the children of `parent`, newest first; pages are
        fetched as they are needed.

        With `include_archived` archived ones too; with `labels` only chats that have all of them
        (with these values); with `statuses` only those in one of them
        (`chat_pb2.CHAT_STATUS_ERROR`, ...).
        """
        with of_unicode():
            request = chat_service_pb2.ListChatsRequest(
                include_archived=include_archived,
                labels=_checked(labels),
                statuses=statuses,
                parent_chat_id=parent,
            )
        while True:
            page = await self.call(self.chats.ListChats, request)
            for chat in page.chats:
                yield chat
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def pending_actions(self) -> AsyncIterator[tool_pb2.PendingAction]:
        """Yield what the caller's chats wait for, first deadline first: calls of client tools."""
        request = chat_service_pb2.ListPendingActionsRequest()
        while True:
            page = await self.call(self.chats.ListPendingActions, request)
            for action in page.actions:
                yield action
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(
        self,
        cursor: str = "",
        *,
        root_chat_id: str = "",
        labels: Mapping[str, str] | None = None,
        failures_max: int | None = None,
    ) -> AsyncGenerator[chat_service_pb2.WatchChatsResponse, None]:
        """Yield what happens in all chats of the caller, across cuts of the stream.

        Begins after the `cursor` of a response, or now; `caught_up` comes when everything from
        before the start was sent. Each event comes once, those of one chat in the order of its
        log: new statuses, titles and labels, actions that wait for this client, deletions. Messages
        are not sent: follow the chat for them. With `root_chat_id` only the family of that chat,
        with `labels` only chats that have all of them.

        With `failures_max` it raises Unavailable after more failures in a row than that; else it
        tries for ever. Raises StreamLost if the server has dropped events after the cursor: list
        the chats, and watch without one.
        """
        with of_unicode():
            request = chat_service_pb2.WatchChatsRequest(
                root_chat_id=root_chat_id, labels=_checked(labels)
            )

        def begin(at: str | None) -> Any:
            asked = chat_service_pb2.WatchChatsRequest()
            asked.CopyFrom(request)
            asked.cursor = at or ""
            return self.chats.WatchChats(asked, metadata=self._endpoint.metadata)

        address = self._endpoint.address
        follower: Follower[chat_service_pb2.WatchChatsResponse, str] = Follower(
            begin, address, self._on_reconnect, failures_max, cursor or None
        )
        async with aclosing(follower.responses()) as responses:
            async for response in responses:
                yield response

    async def call(self, method: Callable[..., Awaitable[_Response]], request: Any) -> _Response:
        """Make one unary call of the contract, tried again while that may help. Raises ChatdError.

        `method` is one of a stub, `request` its message: what has no method of its own is
        `await client.call(client.chats.ListEvents, ListEventsRequest(chat_id=...))`.
        """
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = str(uuid4())
        failures = 0
        begun_at = self._clock.now()
        while True:
            try:
                return await method(
                    request, metadata=self._endpoint.metadata, timeout=UNARY_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                failures += 1
                known = from_rpc(error)
                tried = self._clock.now() - begun_at
                left = self._retry_seconds - tried
                if left <= (known.retry_seconds or 0) or not may_try_again(error):
                    if error.code() in _NO_ANSWER and not known.reason:
                        known = no_server(self._endpoint.address, _how_long(failures, tried))
                    raise self._advised(known) from error
            backoff = clock.backoff_seconds(failures, most=PAUSE_SECONDS_MAX)
            await self._clock.pause(min(known.retry_seconds or backoff, left))

    def _advised(self, error: ChatdError) -> ChatdError:
        """Return the error with advice for a user of this library."""
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
    ) -> Follower[chat_service_pb2.SubscribeResponse, chat_pb2.Cursor]:
        """Return what follows the chat of a `request`, from a `cursor`; see `ChatHandle.follow`.

        With `failures_max` it raises Unavailable after more failures in a row than that.
        """

        def begin(at: chat_pb2.Cursor | None) -> Any:
            asked = chat_service_pb2.SubscribeRequest()
            asked.CopyFrom(request)
            if at is not None:
                asked.resume_from.CopyFrom(at)
            return self.chats.Subscribe(asked, metadata=self._endpoint.metadata)

        address = self._endpoint.address
        return Follower(begin, address, self._on_reconnect, failures_max, cursor)


def _checked(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels as the contract takes them. Raises TypeError, which names the label."""
    for name, value in (labels or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"the label {name!r}: {value!r} must be two strings: give str for both")
    return dict(labels or {})


def _how_long(failures: int, seconds: float) -> str:
    return "once" if failures == 1 and seconds < 1 else f"for {round(seconds, 1):g} s"
