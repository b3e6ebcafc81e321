"""The source of the built-in tools."""

from collections.abc import Hashable, Mapping, Sequence

from chatd_server.domain.chat import ChatState
from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import Tool
from chatd_server.tools.builtin.current_time import current_time_tool
from chatd_server.tools.builtin.sandbox import sandbox_tools

SANDBOX_MODELS = "sandbox/"
"""Only models with this prefix get the sandbox's tools."""


class BuiltinTools:
    """A `ToolSource`: the tools depend only on the model."""

    def __init__(self, clock: Clock) -> None:
        everyday: tuple[Tool, ...] = (current_time_tool(clock),)
        self._everyday = {tool.spec.name: tool for tool in everyday}
        self._sandbox = self._everyday | {tool.spec.name: tool for tool in sandbox_tools(clock)}

    def version(self, chat: ChatState, model: str) -> Hashable:  # noqa: ARG002  the port's
        """Return which of the two sets applies."""
        return model.startswith(SANDBOX_MODELS)

    async def tools(self, chat: ChatState, model: str) -> Sequence[Tool]:  # noqa: ARG002  the port's
        """Return the tools for chats with this model."""
        return tuple(self.named(model).values())

    def named(self, model: str) -> Mapping[str, Tool]:
        """Return the same tools by name; a client's tool must not use one of these names."""
        return self._sandbox if model.startswith(SANDBOX_MODELS) else self._everyday
