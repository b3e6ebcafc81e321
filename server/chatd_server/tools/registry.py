"""Which tools of the service a chat has."""

from collections.abc import Iterable, Mapping

from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import Tool
from chatd_server.tools.builtin.current_time import current_time_tool
from chatd_server.tools.builtin.sandbox import sandbox_tools

SANDBOX_MODELS = "sandbox/"
"""Models with this prefix are offered the sandbox's tools; no other model ever is."""


class BuiltinTools:
    """The `Tools` port: what chatd brings along."""

    def __init__(self, clock: Clock) -> None:
        everyday: tuple[Tool, ...] = (current_time_tool(clock),)
        self._everyday = {tool.spec.name: tool for tool in everyday}
        self._sandbox = self._everyday | {tool.spec.name: tool for tool in sandbox_tools(clock)}

    def active(self, model: str) -> Mapping[str, Tool]:
        """Return the built-in tools by name for chats of this model ("provider/model")."""
        return self._sandbox if model.startswith(SANDBOX_MODELS) else self._everyday

    def names(self) -> Iterable[str]:
        """Return every built-in name."""
        return self._sandbox.keys()
