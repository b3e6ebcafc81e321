"""The model's context: how full it is, summarise it, begin a new one."""

from chatd_server.agent.compaction.decide import level_for
from chatd_server.agent.compaction.settings import CompactionSettings
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import ClearContext, RequestCompaction
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.refusal import ModelNotFound
from chatd_server.ports.clock import Clock
from chatd_server.ports.models import Model, Models
from chatd_server.ports.store import Applied, ChatStore, RequestKey
from chatd_server.service.ids import chat_id_of, command_id


class Contexts:
    """Arguments were checked; every method with an owner refuses other owners."""

    def __init__(
        self,
        store: ChatStore,
        clock: Clock,
        models: Models,
        settings: CompactionSettings,
        default_model: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._models = models
        self._settings = settings
        self._default_model = default_model

    async def compact(
        self, owner_id: OwnerId, chat_id: str, *, request: RequestKey | None = None
    ) -> Applied:
        """Begin a turn that summarises the context. Raises NothingToCompact."""
        command = RequestCompaction(command_id=command_id(self._clock, request))
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    async def clear(
        self, owner_id: OwnerId, chat_id: str, *, request: RequestKey | None = None
    ) -> Applied:
        """Let the context begin after the newest message."""
        command = ClearContext(command_id=command_id(self._clock, request))
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    def level(self, state: ChatState) -> ContextLevel | None:
        """Return how full a chat's context is; None when that is unknown."""
        if state.context is None:
            return None
        model = self._model(_model_name(state) or self._default_model)
        thresholds = self._settings.thresholds
        if model is None:
            return ContextLevel(state.context, None, thresholds.percent)
        summariser = self._model(self._settings.model) if self._settings.model else None
        return level_for(state.context, state.owner_id, model, summariser, thresholds)

    def _model(self, name: str) -> Model | None:
        try:
            return self._models.get(name)
        except ModelNotFound:
            return None


def _model_name(state: ChatState) -> str:
    return (state.turn and state.turn.options.model) or state.config.model
