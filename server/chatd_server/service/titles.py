"""Titles: let a model write one."""

from chatd_server.agent.titles.settings import TitleSettings
from chatd_server.agent.titles.write import excerpt, write_title
from chatd_server.collector import let_go
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import SetTitle
from chatd_server.domain.failure import ModelFailure
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.domain.refusal import ChatArchived, NothingToTitle, TitleFailed
from chatd_server.ports.clock import Clock
from chatd_server.ports.models import Models
from chatd_server.ports.store import Applied, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id

READ_MESSAGES_MAX = 50
"""How many of the first messages a title is made from, and how many of the last."""


class Titles:
    """Arguments were checked; every method refuses other owners."""

    def __init__(
        self,
        store: ChatStore,
        clock: Clock,
        models: Models,
        settings: TitleSettings,
        default_model: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._models = models
        self._settings = settings
        self._default_model = default_model

    async def regenerate(
        self, owner_id: OwnerId, chat_id: str, *, request: RequestKey | None = None
    ) -> Applied:
        """Let a model write the chat's title, and wait for it. A title that somebody set meanwhile
        stays.

        Raises NothingToTitle, TitleFailed, ChatArchived, ModelNotFound.
        """
        state = await self._store.load(chat_id_of(chat_id), owner_id)
        told = None if request is None else await self._store.answered(request)
        if told is not None:
            return told
        if state.archived:
            raise ChatArchived(state.status, "the chat is archived; unarchive it first")
        title = await self._written(state)
        command = SetTitle(
            command_id=command_id(self._clock, request), title=title, replaces=state.config.title
        )
        return await self._store.apply(state.id, command, owner_id=owner_id, request=request)

    async def _written(self, state: ChatState) -> str:
        conversation = await self._conversation(state)
        if not conversation:
            raise NothingToTitle(
                state.status, "nobody has said anything in words yet; send a message first"
            )
        name = self._settings.model or state.config.model or self._default_model
        try:
            return await write_title(conversation, self._models.get(name), self._clock)
        except ModelFailure as failed:
            let_go(failed)
            why = failed.error.message
        raise TitleFailed(state.status, f"{name} gave no title: {why}")

    async def _conversation(self, state: ChatState) -> str:
        """Return what was said first and last."""
        first, more = await self._store.messages(
            state.id, after_position=0, limit=READ_MESSAGES_MAX, bytes_max=PAGE_BYTES_MAX
        )
        if not (more and first):
            return excerpt(first, ())
        behind = max(first[-1].position, state.next_position - 1 - READ_MESSAGES_MAX)
        last, _ = await self._store.messages(
            state.id, after_position=behind, limit=READ_MESSAGES_MAX, bytes_max=PAGE_BYTES_MAX
        )
        return excerpt(first, last)
