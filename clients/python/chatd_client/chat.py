"""A handle of one chat: send, follow, and get the answer of a turn."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from chatd.v1 import chat_pb2, chat_service_pb2, message_pb2, tool_pb2
from chatd_client.acts import ChatActs, user_message
from chatd_client.errors import StreamLost
from chatd_client.runner import ToolRunner
from chatd_client.tools import ClientTool, UnknownTools
from chatd_client.turn import OwnTurn, ShownText, text_of

if TYPE_CHECKING:
    from chatd_client.client import Client


class ChatHandle(ChatActs):
    """One chat of one client. `tools` are those that it answers by itself while it follows a turn;
    calls of other tools are left to other programs, as `ToolRunner` says. They must be among the
    tools that the chat was created with: the logger "chatd_client" warns once of any other.

    To send a message and get its answer: `ask` gives the text, `text` gives it as it comes, `run`
    gives every event. To go on after a restart of the program, or to follow an `edit` or a
    `retry`: `resume`. `id` is the chat's UUID.

    What these methods share:

    - `text` is the message, 1 byte to 256 KiB.
    - `busy` says what becomes of it while a turn is open: it waits for its own turn
      (BUSY_BEHAVIOR_QUEUE), interrupts the open one (INTERRUPT), or is refused with Conflict and
      the reason CHAT_BUSY (REJECT). The names are those of `chatd.v1.chat_pb2`.
    - `options` (`chat_pb2.TurnOptions`) are for the message's turn: model, steps, tokens.
    - `request_id`, a UUID of yours, is for a program that must not write twice after its own crash:
      the same call with the same id is done once in 24 hours. `ask`, `text` and `run` then give
      the turn of the message that was sent the first time: it is waited for when it is queued or
      runs, and read from the log when it is over, whatever was sent after it.
    - `cursor` is that of the last response that was handled; None means a snapshot first.

    Every method raises NotFound if this key has no such chat, and what `Client` lists.
    """

    def __init__(self, client: "Client", chat_id: str, tools: Iterable[ClientTool] = ()) -> None:
        super().__init__(client, chat_id, tools)
        self.unknown_tools = UnknownTools()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def get(self) -> chat_pb2.Chat:
        """Return the chat as it is: status, title, labels, last error; without its messages."""
        request = chat_service_pb2.GetChatRequest(chat_id=self.id)
        chat = (await self._client.call(self._client.chats.GetChat, request)).chat
        self.unknown_tools.look(chat, self.tools)
        return chat

    async def send(
        self,
        text: str,
        *,
        busy: chat_pb2.BusyBehavior.ValueType = chat_pb2.BUSY_BEHAVIOR_QUEUE,
        options: chat_pb2.TurnOptions | None = None,
        request_id: str = "",
    ) -> chat_service_pb2.SendMessageResponse:
        """Send a message: it starts a turn, or is queued. Does not wait for the answer.

        The response has it as `message` or as `queued_message`. Raises Conflict when the chat is
        archived, when its queue is full, and when it is busy and `busy` says REJECT.
        """
        request = chat_service_pb2.SendMessageRequest(
            chat_id=self.id,
            message=user_message(text),
            busy_behavior=busy,
            options=options,
            request_id=request_id,
        )
        return await self._client.call(self._client.chats.SendMessage, request)

    async def interrupt(self, expected_turn_id: str = "", *, request_id: str = "") -> bool:
        """Stop the open turn and keep what it has; say whether one was cut.

        With `expected_turn_id` only that turn is cut: none when it is over by now. The queue stays,
        and its first message has its turn next.
        """
        request = chat_service_pb2.InterruptChatRequest(
            chat_id=self.id, expected_turn_id=expected_turn_id, request_id=request_id
        )
        return (await self._client.call(self._client.chats.InterruptChat, request)).interrupted

    async def context(self) -> chat_pb2.ContextLevel | None:
        """Return how full the model's context is; None while that is unknown."""
        request = chat_service_pb2.GetChatRequest(chat_id=self.id)
        response = await self._client.call(self._client.chats.GetChat, request)
        return response.context if response.HasField("context") else None

    async def compact(self, *, request_id: str = "") -> chat_service_pb2.CompactChatResponse:
        """Let the service summarise the model's context, in a turn of its own.

        Does not wait for it: `resume` follows, and `compaction_finished` says what came of it.
        Raises Conflict while a turn is open, and (NOTHING_TO_COMPACT) when there is nothing to
        summarise.
        """
        request = chat_service_pb2.CompactChatRequest(chat_id=self.id, request_id=request_id)
        return await self._client.call(self._client.chats.CompactChat, request)

    async def clear_context(self, *, request_id: str = "") -> chat_service_pb2.ClearContextResponse:
        """Let the model forget what was said; the messages stay. Raises Conflict while a turn is
        open, and when a failed one holds up a queue.
        """
        request = chat_service_pb2.ClearContextRequest(chat_id=self.id, request_id=request_id)
        return await self._client.call(self._client.chats.ClearContext, request)

    async def regenerate_title(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Let a model write the title, and wait for it; a title that somebody sets meanwhile stays.

        Raises Conflict (NOTHING_TO_TITLE) when nothing was said yet, and (TITLE_FAILED) when the
        model gives none.
        """
        request = chat_service_pb2.RegenerateTitleRequest(chat_id=self.id, request_id=request_id)
        return (await self._client.call(self._client.chats.RegenerateTitle, request)).chat

    async def messages(self, *, for_model: bool = False) -> list[message_pb2.Message]:
        """Return all messages, in order: users', answers, and results of tools; with `for_model`
        also those that only the model sees, such as summaries.
        """
        request = chat_service_pb2.ListMessagesRequest(
            chat_id=self.id, omit_model_messages=not for_model
        )
        messages: list[message_pb2.Message] = []
        while True:
            page = await self._client.call(self._client.chats.ListMessages, request)
            messages.extend(page.messages)
            if not page.next_page_token:
                return messages
            request.page_token = page.next_page_token

    async def pending_action(self) -> tool_pb2.PendingAction | None:
        """Return the calls of client tools that the chat waits for, or None when there are none."""
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
        """Hand in `results`: one for each pending call, or some of them with `allow_partial`.

        A result has at most 512 KiB, a request 3 MiB. Not needed for the tools of a handle, which
        `ask`, `text`, `run` and `resume` answer. Raises InvalidRequest (TOOL_RESULTS_MISMATCH) when
        they are not those of the pending calls, Conflict (NOT_WAITING_FOR_ACTION) when the chat
        does not wait, for example because another client was faster.
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

        Without a cursor a snapshot comes first. Each response carries the cursor to store. `until`
        says when the stream ends by itself: never, when the chat has settled (WAITING or ERROR), or
        also when it waits for client tools. Without `include_deltas` no pieces of answers come,
        only whole messages. No tools are run; `resume` and `ToolRunner` do that.

        A stream that is cut is resumed after a wait that grows to 5 seconds, without end, or until
        more than `failures_max` tries in a row have failed: then Unavailable. Raises StreamLost
        when the log does not have the cursor (any more): follow again without one.
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
        request_id: str = "",
    ) -> str:
        """Send a message and return the text of its turn's last answer.

        Waits as long as the turn takes, tools included. Raises as `text` does.
        """
        turn, cursor = await self._sent(text, busy, options, request_id)
        answer = ""
        async with aclosing(self._since(cursor, include_deltas=False)) as responses:
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
        request_id: str = "",
    ) -> AsyncGenerator[str, None]:
        """Send a message and yield the text of its turn as it comes, to be shown as it is.

        What was yielded cannot be taken back. So when an answer breaks off and the model is asked
        again, a `Voided` piece comes first: it says so in words, and the answer's text so far is
        void. Between two answers of the turn stands a blank line. `ask` has neither.

        Raises what `send` raises; TurnFailed when the turn failed; Conflict when results of client
        tools are owed that this handle has no tools for; NotFound when the chat is deleted. With a
        `request_id` that was used before, StreamLost when the server's retention has dropped
        events of the turn: `messages` has the answer then.
        """
        turn, cursor = await self._sent(text, busy, options, request_id)
        shown = ShownText()
        async with aclosing(self._since(cursor)) as responses:
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
        request_id: str = "",
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Send a message and yield all that follows until the chat has settled.

        With a `request_id` it ends with the message's own turn, for a repeat is not to bring what
        came after. Store the cursor of each response, to go on with `resume`.

        Calls of this handle's tools are answered on the way, and calls of others waited for;
        without tools the stream also ends when the client owes results. When everything was
        yielded, raises TurnFailed if the message's turn failed, or one before it that the message
        still waits for; NotFound if the chat was deleted. Without `raise_on_error` only the events
        say so. Raises what `send` raises, and StreamLost as `text` does.
        """
        turn, cursor = await self._sent(text, busy, options, request_id)
        async with aclosing(self._since(cursor)) as responses:
            async for response in responses:
                turn.apply(response.event)
                yield response
                if request_id and turn.is_over:
                    break
        failure = turn.failure()
        if raise_on_error and failure is not None:
            raise failure

    def resume(
        self, cursor: chat_pb2.Cursor | None = None, *, include_deltas: bool = True
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Yield all that follows a stored cursor until the chat has settled: the rest of a `run`.

        Calls of this handle's tools are answered as in `run`, also those that were asked for before
        the cursor. Without a cursor a snapshot comes first. A failed turn is an event among others.
        Without `include_deltas` no pieces of answers come. Raises StreamLost when the log does not
        have the cursor (any more): resume without one.
        """
        return self._settling(cursor, include_deltas=include_deltas)

    async def _sent(
        self,
        text: str,
        busy: chat_pb2.BusyBehavior.ValueType,
        options: chat_pb2.TurnOptions | None,
        request_id: str,
    ) -> tuple[OwnTurn, chat_pb2.Cursor]:
        """Send a message; return its turn, and a cursor from before the message.

        Of a message that was sent before, the response is the stored one, and the chat has gone on.
        """
        head = (await self.get()).head_sequence
        sent = await self.send(text, busy=busy, options=options, request_id=request_id)
        message_id = sent.message.message_id or sent.queued_message.message_id
        # A queued message has no event of its own yet; it comes after all that the response knows.
        announced = sent.message.sequence or sent.sequence
        return OwnTurn(message_id), chat_pb2.Cursor(sequence=min(head, announced - 1))

    async def _since(
        self, cursor: chat_pb2.Cursor, *, include_deltas: bool = True
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Follow as `_settling` does, from before a message that was sent."""
        events = self._settling(cursor, include_deltas=include_deltas)
        try:
            async with aclosing(events) as responses:
                async for response in responses:
                    yield response
        except StreamLost as lost:
            if lost.reason != "CURSOR_EXPIRED":
                raise
            raise StreamLost(
                "the message was sent, but the server's log no longer has all events since then: "
                "read the answer from messages(), and call resume() without a cursor to go on",
                reason=lost.reason,
                metadata=lost.metadata,
            ) from lost

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
