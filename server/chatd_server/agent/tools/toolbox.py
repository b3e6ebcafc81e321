"""The tools of one chat as the model sees them, and who executes a call by name.

A name is looked up once, when the model emits the call; the executor is then recorded with the
answer and never derived again.
"""

from collections.abc import Sequence

from chatd_server.domain.chat import ClientTool
from chatd_server.domain.message import Executor
from chatd_server.ports.tools import Tool, ToolSpec


class Toolbox:
    """The service's tools and the client's. The client has the first right to a name, then the
    tool that comes first.
    """

    def __init__(self, server: Sequence[Tool], client: Sequence[ClientTool]) -> None:
        self._client = frozenset(tool.name for tool in client)
        self._server: dict[str, Tool] = {}
        hidden = []
        for tool in server:
            first = self._server.setdefault(tool.spec.name, tool)
            if first is not tool or tool.spec.name in self._client:
                hidden.append(tool.spec.name)
        #: Names of the service's tools that the model is not offered, because the name is taken.
        self.hidden = tuple(hidden)
        #: What the model is told; the same object as long as the tools are the same.
        self.specs = (
            *(tool.spec for name, tool in self._server.items() if name not in self._client),
            *(ToolSpec(tool.name, tool.description, tool.input_schema) for tool in client),
        )

    def executor_of(self, name: str) -> Executor:
        """Say who executes a call of this name that the vendor does not execute itself."""
        if name in self._client:
            return Executor.CLIENT
        return Executor.SERVER if name in self._server else Executor.NONE

    def server_tool(self, name: str) -> Tool | None:
        """Return the service's tool of this name, offered or not: a recorded executor stands."""
        return self._server.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the model may call."""
        return tuple(spec.name for spec in self.specs)
