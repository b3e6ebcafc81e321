"""A tool made from a function: its name, docstring and signature."""

import inspect
from collections.abc import Awaitable, Callable

import msgspec

from chatd_server.ports.tools import ToolContext, ToolOutput, ToolSpec
from chatd_server.tools.schema import Arguments, InvalidArguments


class FunctionTool:
    """A `Tool` from an async function.

    The function returns text, a ToolOutput, or a value that becomes JSON. It is called with keyword
    arguments only, and its exceptions propagate. `idempotent`: a call that had started may run
    again after a crash. Raises TypeError for a function that cannot be a tool.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[object]],
        *,
        idempotent: bool = False,
        ends_turn: bool = False,
        exclusive: bool = False,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__} must be async, so that it can be cancelled")
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"{function.__name__} needs a docstring: the model reads it")
        self._function = function
        self._arguments = Arguments(function)
        self._spec = ToolSpec(function.__name__, description, self._arguments.schema())
        self._idempotent = idempotent
        self._ends_turn = ends_turn
        self._exclusive = exclusive

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    @property
    def idempotent(self) -> bool:
        """Whether a call that had started may run again after a crash."""
        return self._idempotent

    @property
    def ends_turn(self) -> bool:
        """Whether a successful call ends the turn."""
        return self._ends_turn

    @property
    def exclusive(self) -> bool:
        """Whether it runs only as the one call of its answer."""
        return self._exclusive

    async def run(self, arguments: str, context: ToolContext) -> ToolOutput:
        """Run one call; for invalid arguments return an error that lists all problems."""
        try:
            values = self._arguments.read(arguments)
        except InvalidArguments as invalid:
            return _refused(self._spec.name, invalid)
        if self._arguments.context_name is not None:
            values[self._arguments.context_name] = context
        return _output(await self._function(**values))


def _refused(name: str, invalid: InvalidArguments) -> ToolOutput:
    lines = "\n".join(f"- {problem}" for problem in invalid.problems)
    return ToolOutput(
        f"{name} was not run, because its arguments are not valid:\n{lines}",
        is_error=True,
        is_invalid_call=True,
    )


def _output(value: object) -> ToolOutput:
    if isinstance(value, ToolOutput):
        return value
    if isinstance(value, str):
        return ToolOutput(value)
    return ToolOutput(msgspec.json.encode(value).decode(), is_json=True)
