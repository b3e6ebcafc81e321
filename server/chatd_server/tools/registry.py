"""Where the tools of chats come from. A new source is one line here."""

from collections.abc import Callable, Sequence

from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import ToolSource
from chatd_server.tools.builtin.source import BuiltinTools

SOURCES: tuple[Callable[[Clock], ToolSource], ...] = (BuiltinTools,)
"""In this order: if two sources have a tool of the same name, the first one's is offered."""


def tool_sources(clock: Clock) -> Sequence[ToolSource]:
    """Return all sources."""
    return tuple(source(clock) for source in SOURCES)
