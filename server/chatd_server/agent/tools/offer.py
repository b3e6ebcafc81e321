"""The tools that a chat has now: those of all sources, and those of its client."""

from collections.abc import Hashable, Sequence

from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.agent.turn.stop import Stop
from chatd_server.domain.chat import ChatState
from chatd_server.observe import Observer, spans
from chatd_server.ports.tools import Tool, ToolSource


class ToolOffer:
    """One chat's toolbox. It asks the sources for tools only when something has changed."""

    def __init__(self, sources: Sequence[ToolSource], observer: Observer) -> None:
        self._sources = sources
        self._observer = observer
        self._versions: tuple[Hashable, ...] | None = None
        self.toolbox = Toolbox((), ())

    async def refresh(self, chat: ChatState, model: str, stop: Stop) -> None:
        """Update the toolbox. Raises Stopped only if it had to ask the sources."""
        versions = (chat.config.version, *(it.version(chat, model) for it in self._sources))
        if versions == self._versions:
            return
        offered: list[Tool] = []
        async with stop.guard():
            for source in self._sources:
                offered += await source.tools(chat, model)
        stop.check()
        self.toolbox = Toolbox(offered, chat.config.tools)
        self._versions = versions
        for name in self.toolbox.hidden:
            self._observer.note(spans.ToolHidden(chat=chat.id, tool=name))
