"""Messages: send one, read them in order."""

from collections.abc import Sequence

from chatd_server.domain.chat import TurnOptions
from chatd_server.domain.command import BusyBehavior, SendMessage
from chatd_server.domain.ids import OwnerId, TurnId
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.domain.message import Message, Part
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

    async def page(
        self, owner_id: OwnerId, chat_id: str, *, after_position: int, limit: int
    ) -> tuple[Sequence[Message], bool]:
        """Return messages after a position, in order, and whether more follow."""
        state = await self._store.load(chat_id_of(chat_id), owner_id)
        return await self._store.messages(
            state.id, after_position=after_position, limit=limit, bytes_max=PAGE_BYTES_MAX
        )
