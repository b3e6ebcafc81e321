"""Messages: send one, replace one, read them in order."""

from collections.abc import Sequence

import msgspec

from chatd_server.domain.chat import TurnOptions
from chatd_server.domain.command import BusyBehavior, EditMessage, SendMessage
from chatd_server.domain.ids import ChatId, MessageId, OwnerId, TurnId
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.domain.message import Message, Part, Role
from chatd_server.domain.refusal import (
    HistoryChanged,
    InvalidRequest,
    NotFound,
    Violation,
)
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id


class Messages:
    """Arguments were checked; every method refuses other owners."""

    def __init__(self, store: ChatStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def send(
        self,
        owner_id: OwnerId,
        chat_id: str,
        parts: tuple[Part, ...],
        *,
        options: TurnOptions,
        busy: BusyBehavior,
        expected_turn_id: str = "",
        request: RequestKey | None = None,
    ) -> Applied:
        """Start a turn with a message; when the chat is busy, do what `busy` says."""
        command = SendMessage(
            command_id=command_id(self._clock, request),
            parts=parts,
            options=options,
            busy=busy,
            expected_turn_id=TurnId(expected_turn_id) if expected_turn_id else None,
        )
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    async def edit(
        self,
        owner_id: OwnerId,
        chat_id: str,
        message_id: str,
        parts: tuple[Part, ...],
        *,
        options: TurnOptions,
        request: RequestKey | None = None,
    ) -> Applied:
        """Replace a user's message and remove all after it; running work is cut."""
        chat = chat_id_of(chat_id)
        command = EditMessage(
            command_id=command_id(self._clock, request), position=0, parts=parts, options=options
        )
        while True:
            try:
                seen = await self._store.load(chat, owner_id)
                position = await self._position(chat, message_id)
            except NotFound:
                # Carried out before, it has removed the message that it names.
                told = None if request is None else await self._store.answered(request)
                if told is None:
                    raise
                return told
            placed = msgspec.structs.replace(
                command, position=position, seen_sequence=seen.head_sequence
            )
            try:
                return await self._store.apply(chat, placed, owner_id=owner_id, request=request)
            except HistoryChanged:
                continue  # by another edit, after the look-up

    async def _position(self, chat_id: ChatId, message_id: str) -> int:
        """Return where a user's message stands. Raises MessageNotFound, InvalidRequest."""
        message = await self._store.message_position(chat_id, MessageId(message_id))
        if message.role is not Role.USER or message.compressed:
            raise InvalidRequest(
                Violation("message_id", "is not a message of a user; only such messages are edited")
            )
        return message.position

    async def page(
        self, owner_id: OwnerId, chat_id: str, *, after_position: int, limit: int
    ) -> tuple[Sequence[Message], bool]:
        """Return messages after a position, in order, and whether more follow."""
        state = await self._store.load(chat_id_of(chat_id), owner_id)
        return await self._store.messages(
            state.id, after_position=after_position, limit=limit, bytes_max=PAGE_BYTES_MAX
        )
