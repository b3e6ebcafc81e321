"""Client tools: functions of yours that the model calls and your process runs.

    @tool
    async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
        '''Say what the weather is in a city.'''

The schema comes from the type hints, the description from the docstring. `ToolRunner` follows a
chat and answers its calls; the chat waits in REQUIRES_ACTION until all are answered.

An async function runs on the event loop, a plain one in a thread beside it, so that it may compute
or wait without holding up a stream. Plain functions of one action run at the same time, and one
function may run twice: what they share needs a lock.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from chatd.v1 import chat_service_pb2, tool_pb2
from chatd_client.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from chatd_client.client import ChatHandle

RESULT_BYTES_MAX = 512 * 1024
"""Longest result that a server takes."""

REQUEST_BYTES_MAX = 2 * 1024 * 1024
"""Results of one request together: a server takes 3 MiB, everything included."""

_REFUSALS_OF_LATE_RESULTS = frozenset({"NOT_WAITING_FOR_ACTION", "TOOL_RESULTS_MISMATCH"})


class ToolFailed(Exception):
    """Raise it in a tool to give the model an error with these words and nothing else."""


@dataclass(frozen=True)
class ClientTool:
    """A function with the schema that the model is told."""

    name: str
    description: str
    input_schema_json: str
    function: Callable[..., Any] = field(repr=False)
    arguments: type[msgspec.Struct] = field(repr=False)

    @property
    def definition(self) -> tool_pb2.ToolDefinition:
        """What CreateChat is given."""
        return tool_pb2.ToolDefinition(
            name=self.name,
            description=self.description,
            input_schema_json=self.input_schema_json,
        )

    async def result(self, call: tool_pb2.PendingToolCall) -> tool_pb2.ToolResultInput:
        """Run one call and return what to submit.

        Whatever the function raises is an error result; only ToolFailed's own words are shown
        to the model, others by their type. A plain function runs in a thread of the loop's
        default executor. When this is cancelled, a plain function that has begun goes on to its
        end, for no thread can be stopped, and its result is dropped.
        """
        answer = tool_pb2.ToolResultInput(tool_call_id=call.tool_call_id)
        try:
            value = await self._value(self._read(call.arguments_json))
            if isinstance(value, str):
                answer.output_text = _fitting(value)
            else:
                answer.output_json = _fitting(msgspec.json.encode(value).decode())
        except ToolFailed as error:
            answer.output_text = _sendable(str(error))
            answer.is_error = True
        except Exception as error:  # noqa: BLE001  a tool's defect is the model's to hear of
            answer.output_text = self._defect(error)
            answer.is_error = True
        return answer

    def _read(self, arguments_json: str) -> dict[str, Any]:
        """Return the arguments by name. Raises ToolFailed for those that do not fit."""
        try:
            arguments = msgspec.json.decode(arguments_json or "{}", type=self.arguments)
        except msgspec.DecodeError as error:
            raise ToolFailed(f"the arguments do not fit: {error}") from error
        return msgspec.structs.asdict(arguments)

    async def _value(self, arguments: dict[str, Any]) -> Any:
        """Call the function where it belongs, and return what it gives. Raises what it raises."""
        if _is_async(self.function):
            return await self.function(**arguments)
        value = await asyncio.to_thread(self._called, arguments)
        # A plain wrapper of an async function: what it made is the loop's to run.
        return await value if isinstance(value, Awaitable) else value

    def _called(self, arguments: dict[str, Any]) -> Any:
        """Call a plain function, in its thread. Raises ToolFailed, and no other Exception."""
        try:
            return self.function(**arguments)
        except ToolFailed:
            raise
        except Exception as error:
            # A future does not carry every exception: with a StopIteration it is never done, and
            # the CancelledError of a thread pool would arrive as the end of our own task.
            raise ToolFailed(self._defect(error)) from error

    def _defect(self, error: Exception) -> str:
        """Say that the function broke. Its words may hold secrets, so only the type is named."""
        return f"{self.name} failed: {type(error).__name__}"


def _is_async(function: Callable[..., Any]) -> bool:
    """Say whether a call gives a coroutine: of an async function, or an object's async call."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


def _fitting(output: str) -> str:
    """Return the output if a server takes it; raises ToolFailed, for the model to ask for less."""
    size = len(output.encode())
    if size > RESULT_BYTES_MAX:
        raise ToolFailed(f"the result has {size} bytes, at most {RESULT_BYTES_MAX} are accepted")
    return output


def _sendable(words: str) -> str:
    """Return words as far as a server takes them: a failure must not fail for its own words."""
    return words.encode(errors="replace")[:RESULT_BYTES_MAX].decode(errors="ignore")


def tool(function: Callable[..., Any]) -> ClientTool:
    """Turn a function, plain or async, into a tool. Raises TypeError without type hints.

    A plain one runs in a thread, with the context variables of its run and without an event loop.
    """
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in hints:
            raise TypeError(f"{function.__name__}: parameter {name!r} needs a type hint")
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
    )


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


class ToolRunner:
    """Follows one chat and answers the calls of its tools, for as long as it is asked to."""

    def __init__(self, chat: "ChatHandle", tools: Iterable[ClientTool]) -> None:
        self._chat = chat
        self._tools = {tool.name: tool for tool in tools}

    async def follow(
        self, **options: Any
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Yield what `ChatHandle.follow` yields, and answer every open action on the way."""
        async for response in self._chat.follow(**options):
            yield response
            kind = response.event.WhichOneof("event")
            if kind == "action_required":
                action = response.event.action_required.action
            elif kind == "snapshot" and response.event.snapshot.HasField("pending_action"):
                action = response.event.snapshot.pending_action
            else:
                continue
            # A log tells of old actions too, and leaves long arguments out; what is pending
            # now is whole.
            pending = await self._chat.pending_action()
            if pending is not None and pending.sequence == action.sequence:
                await self.answer(pending)

    async def answer(self, action: tool_pb2.PendingAction) -> None:
        """Run every call of an action, side by side, and submit the results: by parts when they
        are too large for one request.

        Somebody else was faster, or the action is over: that is fine, and only what is still
        wanted is submitted. Nothing is when this is cancelled; plain functions that have begun go
        on to their end.
        """
        calls = list(action.tool_calls)
        left = list(await asyncio.gather(*(self._result(call) for call in calls)))
        while left:
            part = _one_request(left)
            try:
                await self._chat.submit_tool_results(part, allow_partial=len(part) < len(left))
            except (Conflict, InvalidRequest) as refusal:
                # The model may have asked anew meanwhile: then the ids are no longer the open ones.
                wanted = await self._wanted(action)
                still = [it for it in left if it.tool_call_id in wanted]
                if refusal.reason not in _REFUSALS_OF_LATE_RESULTS or len(still) == len(left):
                    raise
                left = still
            else:
                left = left[len(part) :]

    async def _wanted(self, action: tool_pb2.PendingAction) -> frozenset[str]:
        pending = await self._chat.pending_action()
        if pending is None or pending.sequence != action.sequence:
            return frozenset()
        return frozenset(call.tool_call_id for call in pending.tool_calls)

    async def _result(self, call: tool_pb2.PendingToolCall) -> tool_pb2.ToolResultInput:
        known = self._tools.get(call.tool_name)
        if known is not None:
            return await known.result(call)
        return tool_pb2.ToolResultInput(
            tool_call_id=call.tool_call_id,
            output_text=f"this client has no tool named {call.tool_name}",
            is_error=True,
        )


def _one_request(results: Sequence[tool_pb2.ToolResultInput]) -> list[tool_pb2.ToolResultInput]:
    """Return the first results, as many as one request holds, at least one."""
    part: list[tool_pb2.ToolResultInput] = []
    size = 0
    for result in results:
        size += result.ByteSize()
        if part and size > REQUEST_BYTES_MAX:
            break
        part.append(result)
    return part
