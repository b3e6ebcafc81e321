"""Turns: stop the open one, try the failed one again."""

from chatd_server.domain.command import Interrupt, RetryTurn
from chatd_server.domain.ids import OwnerId, TurnId
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id


class Turns:
    """Arguments were checked; every method refuses other owners."""

    def __init__(self, store: ChatStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

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

    async def retry(
        self, owner_id: OwnerId, chat_id: str, *, request: RequestKey | None = None
    ) -> Applied:
        """Run the failed turn again, without a new message."""
        command = RetryTurn(command_id=command_id(self._clock, request))
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )
