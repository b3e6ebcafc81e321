"""The queue of a chat: list it, change its order, take a message out, start one."""

from collections.abc import Sequence

from chatd_server.domain.chat import Queued
from chatd_server.domain.command import DeleteQueued, PromoteQueued, ReorderQueue
from chatd_server.domain.ids import MessageId, OwnerId
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id


class Queue:
    """Arguments were checked; every method refuses other owners."""

    def __init__(self, store: ChatStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def queued(self, owner_id: OwnerId, chat_id: str) -> Sequence[Queued]:
        """Return the messages that wait for their turn, head first."""
        return (await self._store.load(chat_id_of(chat_id), owner_id)).queue

    async def delete(
        self,
        owner_id: OwnerId,
        chat_id: str,
        message_id: str,
        *,
        request: RequestKey | None = None,
    ) -> Applied:
        """Take a message out of the queue; succeeds if it is not there."""
        command = DeleteQueued(
            command_id=command_id(self._clock, request), message_id=MessageId(message_id)
        )
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    async def promote(
        self,
        owner_id: OwnerId,
        chat_id: str,
        message_id: str,
        *,
        request: RequestKey | None = None,
    ) -> Applied:
        """Move a message to the head and start it as soon as the open turn has saved its step."""
        command = PromoteQueued(
            command_id=command_id(self._clock, request), message_id=MessageId(message_id)
        )
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    async def reorder(
        self,
        owner_id: OwnerId,
        chat_id: str,
        message_ids: Sequence[str],
        *,
        request: RequestKey | None = None,
    ) -> Applied:
        """Put the queue in this order, which names each of its messages once."""
        command = ReorderQueue(
            command_id=command_id(self._clock, request),
            message_ids=tuple(MessageId(it) for it in message_ids),
        )
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )
