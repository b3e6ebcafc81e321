"""Client tools: your functions, which the model calls and your process runs.

    @tool
    async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
        '''Say what the weather is in a city.'''

The schema comes from the type hints, the description from the docstring. A parameter whose type is
`ToolCallContext` is hidden from the model: it says which call this is. `ToolRunner` follows a chat
and answers its calls; the chat waits in REQUIRES_ACTION until all are answered.

An async function runs on the event loop, a plain one in a thread, so that it can compute or wait
without delaying a stream. Plain functions of one action run at the same time, also one function for
two calls: protect shared data with a lock.
"""

import asyncio
import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import msgspec

from chatd.v1 import chat_pb2, tool_pb2

_log = logging.getLogger("chatd_client")

RESULT_BYTES_MAX = 512 * 1024
"""Longest result that a server takes."""


class ToolFailed(Exception):
    """Raise it in a tool to give the model exactly this text as an error."""


class _NotJson(ToolFailed):
    """The result is a defect of the program: it is reported to the model and to the log."""


@dataclass(frozen=True)
class _Raised:
    """What a plain function raised in its thread."""

    error: Exception | SystemExit


@dataclass(frozen=True, kw_only=True)
class ToolCallContext:
    """Which call a tool runs for. A function gets it by a parameter of this type.

    `tool_call_id` is the same when the call runs again (after a crash of this program, or in
    another program): store it with the effect, so that the effect happens once. Later versions may
    add fields with defaults; tests build it with keywords.
    """

    tool_call_id: str
    tool_name: str
    chat_id: str


@dataclass(frozen=True)
class ClientTool:
    """A function with the schema that the model gets."""

    name: str
    description: str
    input_schema_json: str
    function: Callable[..., Any] = field(repr=False)
    arguments: type[msgspec.Struct] = field(repr=False)
    #: Name of the parameter that takes the ToolCallContext; empty when there is none.
    context_parameter: str = field(default="", repr=False)

    @property
    def definition(self) -> tool_pb2.ToolDefinition:
        """The definition for CreateChat."""
        return tool_pb2.ToolDefinition(
            name=self.name,
            description=self.description,
            input_schema_json=self.input_schema_json,
        )

    async def result(
        self, call: tool_pb2.PendingToolCall, chat_id: str = ""
    ) -> tool_pb2.ToolResultInput:
        """Run one call and return what to submit.

        Whatever the function raises becomes an error result, also what `sys.exit()` raises. The
        model sees the text of ToolFailed; of other exceptions it sees the type, and the logger
        "chatd_client" logs the traceback. A plain function runs in a thread of the loop's default
        executor. If this is cancelled, a plain function that has begun runs to its end, because a
        thread cannot be stopped, and its result is dropped.
        """
        answer = tool_pb2.ToolResultInput(tool_call_id=call.tool_call_id)
        try:
            value = await self._value(self._arguments(call, chat_id))
            if isinstance(value, _Raised):
                return self._failed(call, chat_id, value.error)
            if isinstance(value, str):
                answer.output_text = _fitting(value)
            else:
                answer.output_json = _json(value)
        # A defect of a tool is reported to the model and does not end the program.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return self._failed(call, chat_id, error)
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            # It cancelled itself: a defect like any other.
            return self._failed(call, chat_id, error)
        return answer

    def _failed(
        self, call: tool_pb2.PendingToolCall, chat_id: str, error: BaseException
    ) -> tool_pb2.ToolResultInput:
        """Return the error result. The text of a defect may hold secrets, so the model gets its
        type, and the log gets all of it.
        """
        is_meant = isinstance(error, ToolFailed)
        if not is_meant or isinstance(error, _NotJson):
            _log.error(
                "the tool %s failed: call %s of chat %s",
                self.name,
                call.tool_call_id,
                chat_id,
                exc_info=error,
            )
        words = str(error) if is_meant else f"{self.name} failed: {type(error).__name__}"
        return tool_pb2.ToolResultInput(
            tool_call_id=call.tool_call_id, output_text=_sendable(words), is_error=True
        )

    def _arguments(self, call: tool_pb2.PendingToolCall, chat_id: str) -> dict[str, Any]:
        """Return the arguments of the function. Raises ToolFailed."""
        arguments = self._read(call.arguments_json)
        if self.context_parameter:
            arguments[self.context_parameter] = ToolCallContext(
                tool_call_id=call.tool_call_id, tool_name=self.name, chat_id=chat_id
            )
        return arguments

    def _read(self, arguments_json: str) -> dict[str, Any]:
        """Return the arguments by name. Raises ToolFailed for those that do not fit."""
        try:
            arguments = msgspec.json.decode(arguments_json or "{}", type=self.arguments)
        except msgspec.DecodeError as error:
            raise ToolFailed(f"the arguments do not fit: {error}") from error
        return msgspec.structs.asdict(arguments)

    async def _value(self, arguments: dict[str, Any]) -> Any:
        """Call the function on the loop or in a thread, and return its result."""
        if _is_async(self.function):
            return await self.function(**arguments)
        value = await asyncio.to_thread(self._called, arguments)
        # A plain wrapper of an async function: the loop runs its coroutine.
        return await value if isinstance(value, Awaitable) else value

    def _called(self, arguments: dict[str, Any]) -> Any:
        """Call a plain function, in its thread. Exceptions are returned, because a future cannot
        carry all of them: with a StopIteration it is never done, and a CancelledError would cancel
        our own task.
        """
        try:
            return self.function(**arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return _Raised(error)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_async(function: Callable[..., Any]) -> bool:
    """Say whether a call returns a coroutine: an async function, or an async `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


def _fitting(output: str) -> str:
    """Return the output unless it is too large; then raises ToolFailed."""
    size = len(output.encode())
    if size > RESULT_BYTES_MAX:
        raise ToolFailed(
            f"the result has {size} bytes, the limit is {RESULT_BYTES_MAX}: ask for less"
        )
    return output


def _json(value: Any) -> str:
    """Return a result as JSON. Raises ToolFailed, and TypeError for a value without JSON."""
    output = _fitting(msgspec.json.encode(value).decode())
    # The encoder writes null for NaN and Infinity.
    if "null" in output and _has_odd_number(msgspec.to_builtins(value, str_keys=True)):
        raise _NotJson("the result has NaN or Infinity, which JSON does not have")
    return output


def _has_odd_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_odd_number, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_odd_number, value))
    return isinstance(value, float) and not math.isfinite(value)


def _sendable(words: str) -> str:
    """Cut the text of a failure to the limit of the server."""
    return words.encode(errors="replace")[:RESULT_BYTES_MAX].decode(errors="ignore")


def given(tools: Iterable[ClientTool]) -> tuple[ClientTool, ...]:
    """Return the tools as a tuple. Raises TypeError, which names what is not a tool."""
    if isinstance(tools, ClientTool):
        raise TypeError(f"tools is one tool: give it in a list, [{tools.name}]")
    if not isinstance(tools, Iterable):
        raise TypeError(f"tools is {_described(tools)}: give a list of functions under @tool")
    known = tuple(tools)
    for index, it in enumerate(known):
        if not isinstance(it, ClientTool):
            raise TypeError(f"tools[{index}] is {_described(it)} and not a tool: {_advice(it)}")
    return known


@dataclass
class UnknownTools:
    """Warns once about tools that the chat was not created with: the model never calls them."""

    _warned: set[str] = field(default_factory=set)

    def look(self, chat: chat_pb2.Chat, tools: Iterable[ClientTool]) -> None:
        """Compare the tools of a program with those of the chat."""
        unknown = {it.name for it in tools} - {it.name for it in chat.tools} - self._warned
        if not unknown:
            return
        self._warned |= unknown
        _log.warning(
            "chat %s was not created with %s, so the model never calls it: give create_chat all "
            "tools of a chat",
            chat.chat_id,
            ", ".join(f"the tool {name}" for name in sorted(unknown)),
        )


def _described(given: object) -> str:
    if inspect.isclass(given):
        return f"the class {given.__name__}"
    if inspect.isroutine(given):
        kind = "method" if inspect.ismethod(given) else "function"
        return f"the {kind} {given.__name__}"
    return f"an object of the type {type(given).__name__}"


def _advice(given: object) -> str:
    if inspect.isroutine(given):
        return f"write @tool above it, or give tool({given.__name__})"
    return "give a function under @tool, or tool(...) of a method"


def _check_function(function: object) -> None:
    """Raise TypeError for what cannot be a tool."""
    if inspect.isclass(function):
        raise TypeError(f"{function.__name__} is a class: a tool is a function or a method")
    if not callable(function) or not hasattr(function, "__name__"):
        raise TypeError(f"{function!r} has no name or cannot be called: a tool is a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__} yields: a tool must return one result, as a whole")


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def tool(function: Callable[..., Any]) -> ClientTool:
    """Turn a function, plain or async, into a tool. Raises TypeError for a parameter that the model
    cannot give: without a type hint, of a type without JSON Schema, positional-only, `*` or `**`.

    A plain one runs in a thread, with the context variables of its run and without an event loop.
    """
    _check_function(function)
    hints = get_type_hints(function, include_extras=True)
    context_parameter = ""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in _BY_NAME:
            raise TypeError(
                f"{function.__name__}: parameter {str(parameter)!r} is "
                f"{parameter.kind.description}: a tool takes its arguments by name, so declare "
                "each one"
            )
        if name not in hints:
            raise TypeError(f"{function.__name__}: parameter {name!r} needs a type hint")
        if _mentions_context(hints[name]):
            if hints[name] is not ToolCallContext or context_parameter:
                raise TypeError(
                    f"{function.__name__}: one parameter may be a ToolCallContext, "
                    f"and its type hint must be that alone; {name!r} is not so"
                )
            context_parameter = name
            continue
        _check_type(function.__name__, name, hints[name], parameter.default)
        if parameter.default is inspect.Parameter.empty:
            fields.append((name, hints[name]))
        else:
            fields.append((name, hints[name], parameter.default))
    arguments = msgspec.defstruct(function.__name__, fields, kw_only=True)
    return ClientTool(
        name=function.__name__,
        description=inspect.getdoc(function) or "",
        input_schema_json=msgspec.json.encode(_schema(arguments)).decode(),
        function=function,
        arguments=arguments,
        context_parameter=context_parameter,
    )


def _check_type(function: str, name: str, hint: Any, default: Any) -> None:
    """Raise TypeError for a parameter that a JSON Schema cannot describe."""
    try:
        msgspec.json.Decoder(hint)
        msgspec.json.schema_components([hint])
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{function}: parameter {name!r} has the type {hint!r}, for which there is no JSON "
            "Schema: use str, int, float, bool, list, dict, Literal, a dataclass, or Any"
        ) from error
    if default is inspect.Parameter.empty:
        return
    try:
        msgspec.json.encode(default)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{function}: the default of parameter {name!r} has no JSON") from error


def _mentions_context(hint: Any) -> bool:
    return hint is ToolCallContext or any(map(_mentions_context, get_args(hint)))


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the object schema itself: vendors do not follow a `$ref` at the root."""
    (schema,), definitions = msgspec.json.schema_components([arguments])
    root = definitions.pop(arguments.__name__, schema)
    root = {key: value for key, value in root.items() if key != "title"}
    text = msgspec.json.encode({**root, **({"$defs": definitions} if definitions else {})})
    whole = text.replace(b"#/components/schemas/", b"#/$defs/").replace(
        b"#/definitions/", b"#/$defs/"
    )
    decoded: dict[str, Any] = msgspec.json.decode(whole)
    return decoded
