"""The sources of tools. To add one, add a line here."""

from collections.abc import Callable, Sequence

from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import ToolSource
from chatd_server.tools.builtin.source import BuiltinTools

SOURCES: tuple[Callable[[Clock], ToolSource], ...] = (BuiltinTools,)
"""In order of priority: if two sources have a tool of the same name, the first one wins."""


def tool_sources(clock: Clock) -> Sequence[ToolSource]:
    return tuple(source(clock) for source in SOURCES)
