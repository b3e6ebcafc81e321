"""What a client does to a chat besides talking to it: its queue, its past, its fields, its end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from google.protobuf.field_mask_pb2 import FieldMask

from chatd.v1 import chat_pb2, chat_service_pb2, message_pb2
from chatd_client.errors import of_unicode
from chatd_client.tools import ClientTool, given

if TYPE_CHECKING:
    from chatd_client.client import Client


class ChatActs:
    """The part of `ChatHandle` with one method for each of these calls.

    Each write returns what the server says of the chat after it, and takes a `request_id` as
    `ChatHandle` says. Where a method names no other error, it raises Conflict when the chat is
    archived.
    """

    def __init__(self, client: "Client", chat_id: str, tools: Iterable[ClientTool] = ()) -> None:
        self._client = client
        self.id = chat_id
        self.tools = given(tools)

    # --- the queue -------------------------------------------------------------------------

    async def queued_messages(self) -> list[message_pb2.QueuedMessage]:
        """Return the messages that wait for their turn, head first."""
        request = chat_service_pb2.ListQueuedMessagesRequest(chat_id=self.id)
        messages: list[message_pb2.QueuedMessage] = []
        while True:
            page = await self._client.call(self._client.chats.ListQueuedMessages, request)
            messages.extend(page.queued_messages)
            if not page.next_page_token:
                return messages
            request.page_token = page.next_page_token

    async def delete_queued(self, message_id: str, *, request_id: str = "") -> chat_pb2.Chat:
        """Take a message out of the queue; succeeds if it is not there."""
        request = chat_service_pb2.DeleteQueuedMessageRequest(
            chat_id=self.id, message_id=message_id, request_id=request_id
        )
        return (await self._client.call(self._client.chats.DeleteQueuedMessage, request)).chat

    async def promote_queued(self, message_id: str, *, request_id: str = "") -> chat_pb2.Chat:
        """Let a queued message be the next one: an open turn is interrupted, and keeps what it has.

        Raises NotFound when the message is not in the queue (any more), and Conflict when no turn
        is open.
        """
        request = chat_service_pb2.PromoteQueuedMessageRequest(
            chat_id=self.id, message_id=message_id, request_id=request_id
        )
        return (await self._client.call(self._client.chats.PromoteQueuedMessage, request)).chat

    async def reorder_queued(
        self, message_ids: Sequence[str], *, request_id: str = ""
    ) -> chat_pb2.Chat:
        """Put the queue in this order. Raises InvalidRequest unless each of its messages is named
        once: the queue has changed, so list it again.
        """
        request = chat_service_pb2.ReorderQueuedMessagesRequest(
            chat_id=self.id, message_ids=message_ids, request_id=request_id
        )
        return (await self._client.call(self._client.chats.ReorderQueuedMessages, request)).chat

    # --- the past --------------------------------------------------------------------------

    async def edit(
        self,
        message_id: str,
        text: str,
        *,
        options: chat_pb2.TurnOptions | None = None,
        request_id: str = "",
    ) -> chat_service_pb2.EditMessageResponse:
        """Replace a user's message, and begin its turn. Does not wait for the answer.

        All messages after it are removed, the queue is emptied, and an open turn is cut without a
        trace. The new message has an id of its own. Raises NotFound when the message is not in the
        history (any more), InvalidRequest when no user wrote it.
        """
        request = chat_service_pb2.EditMessageRequest(
            chat_id=self.id,
            message_id=message_id,
            message=user_message(text),
            options=options,
            request_id=request_id,
        )
        return await self._client.call(self._client.chats.EditMessage, request)

    async def retry(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Run the failed turn again, without a new message. Does not wait for the answer.

        Raises Conflict when the chat has not failed.
        """
        request = chat_service_pb2.RetryTurnRequest(chat_id=self.id, request_id=request_id)
        return (await self._client.call(self._client.chats.RetryTurn, request)).chat

    async def fork(
        self,
        message_id: str = "",
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Self:
        """Make a new chat with this one's history, up to a message or to the newest one, and return
        its handle, with the tools of this one.

        It has the same model, instructions and tools, and the same title unless one is given; not
        the labels. This chat stays as it is. Raises NotFound when the message is not in the
        history (any more), InvalidRequest when the history is too long to be copied.
        """
        with of_unicode():
            request = chat_service_pb2.ForkChatRequest(
                chat_id=self.id,
                message_id=message_id,
                title=title,
                labels=labels,
                request_id=request_id,
            )
        response = await self._client.call(self._client.chats.ForkChat, request)
        return type(self)(self._client, response.chat.chat_id, self.tools)

    # --- the chat --------------------------------------------------------------------------

    async def update(
        self,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        model: str | None = None,
        system_prompt: str | None = None,
        tools: Iterable[ClientTool] | None = None,
        action_timeout_seconds: float | None = None,
        etag: str = "",
        request_id: str = "",
    ) -> chat_pb2.Chat:
        """Change fields; None leaves one as it is. The limits are those of `create_chat`.

        Labels and tools are replaced as a whole; an empty model is the server's default. The new
        tools are also those that this handle answers. With the `etag` of a chat that was read,
        Conflict (ETAG_MISMATCH) says that somebody has changed fields since.
        """
        known = None if tools is None else given(tools)
        with of_unicode():
            chat = chat_pb2.Chat(
                title=title or "",
                labels=labels,
                model=model or "",
                system_prompt=system_prompt or "",
                tools=[tool.definition for tool in known or ()],
            )
        if action_timeout_seconds is not None:
            chat.action_timeout.FromMicroseconds(round(action_timeout_seconds * 1_000_000))
        changes = {
            "title": title,
            "labels": labels,
            "model": model,
            "system_prompt": system_prompt,
            "tools": tools,
            "action_timeout": action_timeout_seconds,
        }
        paths = [name for name, value in changes.items() if value is not None]
        if not paths:
            get = chat_service_pb2.GetChatRequest(chat_id=self.id)
            return (await self._client.call(self._client.chats.GetChat, get)).chat
        request = chat_service_pb2.UpdateChatRequest(
            chat_id=self.id,
            chat=chat,
            update_mask=FieldMask(paths=paths),
            etag=etag,
            request_id=request_id,
        )
        changed = (await self._client.call(self._client.chats.UpdateChat, request)).chat
        if known is not None:
            self.tools = known
        return changed

    async def archive(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Archive the chat and its children: they take no messages, and are not listed unless
        asked for.

        Raises Conflict while a turn of one of them is open.
        """
        request = chat_service_pb2.ArchiveChatRequest(chat_id=self.id, request_id=request_id)
        return (await self._client.call(self._client.chats.ArchiveChat, request)).chat

    async def unarchive(self, *, request_id: str = "") -> chat_pb2.Chat:
        """Let an archived chat and its children take messages again."""
        request = chat_service_pb2.UnarchiveChatRequest(chat_id=self.id, request_id=request_id)
        return (await self._client.call(self._client.chats.UnarchiveChat, request)).chat

    async def delete(self, *, request_id: str = "") -> None:
        """Delete the chat and its children, in any status; their streams end with NotFound, and so
        does every call.
        """
        request = chat_service_pb2.DeleteChatRequest(chat_id=self.id, request_id=request_id)
        await self._client.call(self._client.chats.DeleteChat, request)


def user_message(text: str) -> message_pb2.UserMessage:
    """Return a user's message of one text. Raises InvalidRequest for text without UTF-8."""
    with of_unicode():
        part = message_pb2.UserPart(text=message_pb2.UserText(text=text))
    return message_pb2.UserMessage(parts=[part])
