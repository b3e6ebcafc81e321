"""The synchronous client, for scripts: the asynchronous client on its own event loop.

    from chatd_client import SyncClient, tool

    @tool
    def get_weather(city: str) -> str:
        '''Say what the weather is in a city.'''
        return f"It rains in {city}."

    with SyncClient() as client:
        chat = client.create_chat(model="sandbox/echo", tools=[get_weather])
        for text in chat.text('!call get_weather {"city": "Oslo"}'):
            print(text, end="", flush=True)

One background thread runs the loop. A channel belongs to the loop that made it, so no other thread
uses the asynchronous client. Plain tools run in other threads, so they may use the client that runs
them.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from chatd.v1 import admin_service_pb2, chat_pb2, chat_service_pb2, message_pb2, tool_pb2
from chatd_client.chat import ChatHandle
from chatd_client.client import RETRY_SECONDS, Client
from chatd_client.tools import ClientTool

_T = TypeVar("_T")


class _LoopThread:
    """An event loop in its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chatd-client", daemon=True
        )
        self._thread.start()

    @property
    def is_ended(self) -> bool:
        return self._loop.is_closed()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and return its result; an interrupt of this thread cancels it.

        Raises RuntimeError when the loop has ended.
        """
        if self.is_ended:
            work.close()  # nothing will await it, and Python would warn
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        """Yield the items of an asynchronous iterator, one at a time; closing this closes it."""
        # An interrupt of this thread only asks a step to end, and a generator that still runs
        # cannot be closed: the thread that holds this is using it.
        hold = asyncio.Lock()
        try:
            while (item := self.wait(_next(items, hold))) is not _END:
                yield item
        finally:
            if not self.is_ended:
                self.wait(_close(items, hold))

    def stop(self) -> None:
        """Cancel the tasks, then end the loop and the thread."""
        self.wait(_rest_ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_END: Any = object()


async def _next(items: AsyncIterator[_T], hold: asyncio.Lock) -> _T:
    async with hold:
        return await anext(items, _END)


async def _close(items: AsyncIterator[Any], hold: asyncio.Lock) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        async with hold:
            await close()


async def _rest_ended() -> None:
    """Cancel tasks that an unclosed stream left."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class SyncClient:
    """`Client` for code without an event loop. Use it as a context, or call `close`.

    `address`, `key` and `retry_seconds` are those of `Client`, and its methods raise the same
    errors; once closed, RuntimeError. Threads may share it. Ctrl-C ends a call that waits.
    """

    def __init__(
        self,
        address: str | None = None,
        key: str | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._thread = _LoopThread()
        try:
            self._client = self._thread.wait(_made(address, key, retry_seconds))
        except BaseException:
            self._thread.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel and end the thread. Once closed, it does nothing."""
        if self._thread.is_ended:
            return
        self._thread.wait(self._client.close())
        self._thread.stop()

    def server_info(self) -> admin_service_pb2.GetServerInfoResponse:
        """Return what the server says of itself; as Client.server_info."""
        return self._thread.wait(self._client.server_info())

    def create_chat(self, text: str = "", **options: Any) -> "SyncChat":
        """Create a chat; the options are those of Client.create_chat."""
        handle = self._thread.wait(self._client.create_chat(text, **options))
        return SyncChat(self._thread, handle)

    def chat(self, chat_id: str, tools: Iterable[ClientTool] = ()) -> "SyncChat":
        """Return a handle; asks the server nothing. `tools` are as in Client.chat."""
        return SyncChat(self._thread, self._client.chat(chat_id, tools))

    def list_chats(
        self,
        *,
        include_archived: bool = False,
        labels: Mapping[str, str] | None = None,
        statuses: Iterable[chat_pb2.ChatStatus.ValueType] = (),
        parent: str = "",
    ) -> Iterator[chat_pb2.Chat]:
        """Yield the caller's chats, newest first; filters are those of Client.list_chats."""
        return self._thread.each(
            self._client.list_chats(
                include_archived=include_archived,
                labels=labels,
                statuses=statuses,
                parent=parent,
            )
        )

    def watch(
        self, cursor: str = "", **options: Any
    ) -> Iterator[chat_service_pb2.WatchChatsResponse]:
        """Yield what happens in all chats of the caller; the options are those of Client.watch."""
        return self._thread.each(self._client.watch(cursor, **options))

    def pending_actions(self) -> Iterator[tool_pb2.PendingAction]:
        """Yield what the caller's chats wait for, first deadline first."""
        return self._thread.each(self._client.pending_actions())


class SyncChat:
    """`ChatHandle` for code without an event loop: the same methods, options and errors.

    `follow`, `text`, `run` and `resume` give iterators; one that is left early ends its stream when
    it is closed.
    """

    def __init__(self, thread: _LoopThread, handle: ChatHandle) -> None:
        self._thread = thread
        self._handle = handle

    @property
    def id(self) -> str:
        """UUID of the chat."""
        return self._handle.id

    def get(self) -> chat_pb2.Chat:
        """Return the chat as it is; as ChatHandle.get."""
        return self._thread.wait(self._handle.get())

    def send(self, text: str, **options: Any) -> chat_service_pb2.SendMessageResponse:
        """Send a message; the options are those of ChatHandle.send."""
        return self._thread.wait(self._handle.send(text, **options))

    def interrupt(self, expected_turn_id: str = "", *, request_id: str = "") -> bool:
        """Stop the open turn and keep what it has; as ChatHandle.interrupt."""
        return self._thread.wait(self._handle.interrupt(expected_turn_id, request_id=request_id))

    def queued_messages(self) -> list[message_pb2.QueuedMessage]:
        """Return the messages that wait for their turn, head first."""
        return self._thread.wait(self._handle.queued_messages())

    def delete_queued(self, message_id: str, *, request_id: str = "") -> chat_pb2.Chat:
        """Take a message out of the queue; as ChatHandle.delete_queued."""
        return self._thread.wait(self._handle.delete_queued(message_id, request_id=request_id))

    def promote_queued(self, message_id: str, *, request_id: str = "") -> chat_pb2.Chat:
        """Let a queued message be the next one; as ChatHandle.promote_queued."""
        return self._thread.wait(self._handle.promote_queued(message_id, request_id=request_id))

    def reorder_queued(self, message_ids: Sequence[str], *, request_id: str = "") -> chat_pb2.Chat:
        """Put the queue in this order; as ChatHandle.reorder_queued."""
        return self._thread.wait(self._handle.reorder_queued(message_ids, request_id=request_id))

    def edit(
        self, message_id: str, text: str, **options: Any
    ) -> chat_service_pb2.EditMessageResponse:
        """Replace a user's message; the options are those of ChatHandle.edit."""
        return self._thread.wait(self._handle.edit(message_id, text, **options))

    def retry(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Run the failed turn again; as ChatHandle.retry."""
        return self._thread.wait(self._handle.retry(request_id=request_id))

    def fork(self, message_id: str = "", **options: Any) -> "SyncChat":
        """Make a new chat with this one's history; the options are those of ChatHandle.fork."""
        return SyncChat(self._thread, self._thread.wait(self._handle.fork(message_id, **options)))

    def update(self, **fields: Any) -> chat_pb2.Chat:
        """Change fields; they are those of ChatHandle.update."""
        return self._thread.wait(self._handle.update(**fields))

    def archive(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Archive the chat; as ChatHandle.archive."""
        return self._thread.wait(self._handle.archive(request_id=request_id))

    def unarchive(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Let an archived chat take messages again."""
        return self._thread.wait(self._handle.unarchive(request_id=request_id))

    def delete(self, *, request_id: str = "") -> None:
        """Delete the chat; as ChatHandle.delete."""
        self._thread.wait(self._handle.delete(request_id=request_id))

    def context(self) -> chat_pb2.ContextLevel | None:
        """Return how full the model's context is; None while that is unknown."""
        return self._thread.wait(self._handle.context())

    def compact(self, *, request_id: str = "") -> chat_service_pb2.CompactChatResponse:
        """Let the service summarise the model's context; as ChatHandle.compact."""
        return self._thread.wait(self._handle.compact(request_id=request_id))

    def clear_context(self, *, request_id: str = "") -> chat_service_pb2.ClearContextResponse:
        """Let the model forget what was said; as ChatHandle.clear_context."""
        return self._thread.wait(self._handle.clear_context(request_id=request_id))

    def regenerate_title(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Let a model write the title, and wait for it; as ChatHandle.regenerate_title."""
        return self._thread.wait(self._handle.regenerate_title(request_id=request_id))

    def messages(self, *, for_model: bool = False) -> list[message_pb2.Message]:
        """Return all messages, in order; as ChatHandle.messages."""
        return self._thread.wait(self._handle.messages(for_model=for_model))

    def pending_action(self) -> tool_pb2.PendingAction | None:
        """Return what the chat waits for, or None when it waits for nothing."""
        return self._thread.wait(self._handle.pending_action())

    def submit_tool_results(
        self,
        results: Iterable[tool_pb2.ToolResultInput],
        *,
        allow_partial: bool = False,
        request_id: str = "",
    ) -> chat_service_pb2.SubmitToolResultsResponse:
        """Hand in results of client tools; as ChatHandle.submit_tool_results."""
        return self._thread.wait(
            self._handle.submit_tool_results(
                results, allow_partial=allow_partial, request_id=request_id
            )
        )

    def follow(self, **options: Any) -> Iterator[chat_service_pb2.SubscribeResponse]:
        """Yield what happened and what happens; the options are those of ChatHandle.follow."""
        return self._thread.each(self._handle.follow(**options))

    def ask(self, text: str, **options: Any) -> str:
        """Send a message and return the answer; options and errors are those of ChatHandle.ask."""
        return self._thread.wait(self._handle.ask(text, **options))

    def text(self, text: str, **options: Any) -> Iterator[str]:
        """Send a message and yield the answer as it comes; as ChatHandle.text in all else."""
        return self._thread.each(self._handle.text(text, **options))

    def run(self, text: str, **options: Any) -> Iterator[chat_service_pb2.SubscribeResponse]:
        """Send a message and yield all that follows; as ChatHandle.run in all else."""
        return self._thread.each(self._handle.run(text, **options))

    def resume(
        self, cursor: chat_pb2.Cursor | None = None, **options: Any
    ) -> Iterator[chat_service_pb2.SubscribeResponse]:
        """Yield the rest of a run after a stored cursor; otherwise like ChatHandle.resume."""
        return self._thread.each(self._handle.resume(cursor, **options))


async def _made(address: str | None, key: str | None, retry_seconds: float) -> Client:
    """Make the client on the loop that will run it: a channel belongs to one loop."""
    return Client(address, key, retry_seconds=retry_seconds)
