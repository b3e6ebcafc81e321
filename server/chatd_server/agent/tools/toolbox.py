"""The tools of one chat as the model sees them, and who executes a call by name.

A name is looked up once, when the model emits the call. The executor is then recorded with the
answer and never derived again.
"""

from collections.abc import Sequence

from chatd_server.domain.chat import ClientTool
from chatd_server.domain.message import Executor, Part, ToolCall
from chatd_server.ports.tools import Tool, ToolSpec


class Toolbox:
    """The service's tools and the client's. If names clash, the client's tool wins, then the first
    of the service's.
    """

    def __init__(self, server: Sequence[Tool], client: Sequence[ClientTool]) -> None:
        self._client = frozenset(tool.name for tool in client)
        self._server: dict[str, Tool] = {}
        hidden = []
        for tool in server:
            first = self._server.setdefault(tool.spec.name, tool)
            if first is not tool or tool.spec.name in self._client:
                hidden.append(tool.spec.name)
        #: Tools that run only alone.
        self._exclusive = frozenset(name for name, tool in self._server.items() if tool.exclusive)
        #: Names of the service's tools that are not offered to the model because of a clash.
        self.hidden = tuple(hidden)
        #: What the model sees; the same object as long as the tools do not change.
        self.specs = (
            *(tool.spec for name, tool in self._server.items() if name not in self._client),
            *(ToolSpec(tool.name, tool.description, tool.input_schema) for tool in client),
        )

    def executor_of(self, name: str) -> Executor:
        """Return who executes a call of this name, unless the vendor executes it itself."""
        if name in self._client:
            return Executor.CLIENT
        return Executor.SERVER if name in self._server else Executor.NONE

    def server_tool(self, name: str) -> Tool | None:
        """Return the service's tool of this name, hidden or not: a recorded executor holds."""
        return self._server.get(name)

    def crowded(self, parts: Sequence[Part]) -> tuple[str, ...]:
        """Return the exclusive tools that an answer calls beside something else."""
        if not self._exclusive:
            return ()
        ours = [it for it in parts if type(it) is ToolCall and it.executor is not Executor.PROVIDER]
        if len(ours) < 2:  # noqa: PLR2004  beside something else
            return ()
        wanting = (it.name for it in ours if it.executor is Executor.SERVER)
        return tuple(dict.fromkeys(name for name in wanting if name in self._exclusive))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the model may call."""
        return tuple(spec.name for spec in self.specs)
