"""The tools of one chat as the model sees them, and who executes a call by name.

A name is looked up once, when the model emits the call; the executor is then recorded with the
answer and never derived again.
"""

from collections.abc import Mapping, Sequence

from chatd_server.domain.chat import ClientTool
from chatd_server.domain.message import Executor
from chatd_server.ports.tools import Tool, ToolSpec


class Toolbox:
    """Built-in tools and the client's. A client's name wins over a built-in that came later."""

    def __init__(self, built_in: Mapping[str, Tool], client: Sequence[ClientTool]) -> None:
        self._built_in = built_in
        self._client = frozenset(tool.name for tool in client)
        #: Built-ins that the model is not offered, because the client has the name.
        self.hidden = tuple(name for name in built_in if name in self._client)
        #: What the model is told; the same object as long as the tools are the same.
        self.specs = (
            *(tool.spec for name, tool in built_in.items() if name not in self._client),
            *(ToolSpec(tool.name, tool.description, tool.input_schema) for tool in client),
        )

    def executor_of(self, name: str) -> Executor:
        """Say who executes a call of this name that the vendor does not execute itself."""
        if name in self._client:
            return Executor.CLIENT
        return Executor.SERVER if name in self._built_in else Executor.NONE

    def built_in(self, name: str) -> Tool | None:
        """Return the tool of ours with this name, hidden or not: a recorded executor stands."""
        return self._built_in.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the model may call."""
        return tuple(spec.name for spec in self.specs)
