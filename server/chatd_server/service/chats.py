"""Chats: make one, read one, list those of the caller, interrupt one."""

from collections.abc import Mapping, Sequence

import msgspec

from chatd_server.domain.chat import ChatConfig, ChatState, Status, TurnOptions
from chatd_server.domain.command import Create, Interrupt
from chatd_server.domain.ids import ChatId, OwnerId, TurnId, new_uuid
from chatd_server.domain.message import Part
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, ChatPage, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id


class Chats:
    """Arguments were checked; every method refuses other owners."""

    def __init__(self, store: ChatStore, clock: Clock, default_model: str) -> None:
        self._store = store
        self._clock = clock
        self._default_model = default_model

    async def create(
        self,
        owner_id: OwnerId,
        config: ChatConfig,
        *,
        parts: tuple[Part, ...] = (),
        options: TurnOptions | None = None,
        request: RequestKey | None = None,
    ) -> Applied:
        """Make a chat. The default model is stored in it, so that the chat keeps its model when the
        server's default changes.
        """
        chat_id = ChatId(new_uuid(self._clock.now()))
        command = Create(
            command_id=command_id(self._clock, request),
            chat_id=chat_id,
            owner_id=owner_id,
            config=msgspec.structs.replace(config, model=config.model or self._default_model),
            parts=parts,
            options=options or TurnOptions(),
        )
        return await self._store.apply(chat_id, command, owner_id=owner_id, request=request)

    async def get(self, owner_id: OwnerId, chat_id: str) -> ChatState:
        return await self._store.load(chat_id_of(chat_id), owner_id)

    async def page(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None,
        include_archived: bool,
        labels: Mapping[str, str],
        statuses: Sequence[Status],
    ) -> ChatPage:
        """Return chats of the caller, newest first."""
        return await self._store.list_chats(
            owner_id,
            limit=limit,
            after_key=after_key,
            include_archived=include_archived,
            labels=labels or None,
            statuses=statuses,
        )

    async def interrupt(
        self,
        owner_id: OwnerId,
        chat_id: str,
        *,
        expected_turn_id: str = "",
        request: RequestKey | None = None,
    ) -> Applied:
        """Stop the open turn and keep what it has; succeeds too when no turn is open."""
        command = Interrupt(
            command_id=command_id(self._clock, request),
            expected_turn_id=TurnId(expected_turn_id) if expected_turn_id else None,
        )
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )
