"""Client tools: what chats wait for, and the results that clients hand in."""

from collections.abc import Collection

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import SubmittedResult, SubmitToolResults
from chatd_server.domain.ids import OwnerId
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, ChatPage, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id


class ClientTools:
    """Arguments were checked; every method refuses other owners."""

    def __init__(self, store: ChatStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def submit(
        self,
        owner_id: OwnerId,
        chat_id: str,
        results: tuple[SubmittedResult, ...],
        *,
        allow_partial: bool = False,
        request: RequestKey | None = None,
    ) -> Applied:
        """Hand in the results of all pending calls, or of some with `allow_partial`."""
        command = SubmitToolResults(
            command_id=command_id(self._clock, request),
            results=results,
            allow_partial=allow_partial,
        )
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    async def pending(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None,
        chat_id: str = "",
        tool_names: Collection[str] = (),
    ) -> ChatPage:
        """Return chats of the caller that wait for results, oldest first.

        A page may have fewer than `limit` chats although more follow: tool names are compared
        after the page was read.
        """
        only = None
        if chat_id:
            only = (await self._store.load(chat_id_of(chat_id), owner_id)).id
        page = await self._store.list_actions(
            owner_id, limit=limit, after_key=after_key, chat_id=only
        )
        if not tool_names:
            return page
        wanted = tuple(it for it in page.chats if _wants(it, tool_names))
        return msgspec.structs.replace(page, chats=wanted)


def _wants(state: ChatState, tool_names: Collection[str]) -> bool:
    return any(it.name in tool_names and it.is_wanted for it in state.calls)
