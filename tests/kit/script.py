"""A model and tools that follow a test's script, stop at its gates, and record everything."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from chatd_server.domain.answer_parts import (
    AnswerPart,
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
    WholePart,
)
from chatd_server.domain.chat import ChatState
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import FinishReason, Source, Usage
from chatd_server.domain.refusal import ModelNotFound, Violation
from chatd_server.ports.models import Conversation, Model, ModelRequest
from chatd_server.ports.tools import Tool, ToolContext, ToolOutput, ToolSpec

MODEL = "test/model"
USAGE = Usage(input_tokens=10, output_tokens=5)


class Gate:
    """A place where a script waits until the test opens it."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def reached(self) -> None:
        """Wait until the script has arrived."""
        await self._reached.wait()

    def open(self) -> None:
        """Let the script continue."""
        self._opened.set()

    async def pass_through(self) -> None:
        """Wait here until the gate is open."""
        self._reached.set()
        await self._opened.wait()


Line: TypeAlias = AnswerPart | Gate | Exception | Callable[[], object]
Piece: TypeAlias = str | Gate
Spoken: TypeAlias = Callable[[int], list[Line]]
"""Parts of an answer, given the number of the first one."""


def text(*pieces: Piece) -> Spoken:
    """Say text, in these deltas."""
    return lambda n: [*(_delta(PieceKind.TEXT, n, piece) for piece in pieces), PartEnded(n)]


def thinks(*pieces: Piece) -> Spoken:
    """Reason, in these deltas."""
    return lambda n: [*(_delta(PieceKind.REASONING, n, piece) for piece in pieces), PartEnded(n)]


def calls(name: str, *pieces: Piece, vendor_id: str = "toolu_1") -> Spoken:
    """Call a tool; the deltas make up its arguments, `{}` without any."""

    def parts(n: int) -> list[Line]:
        deltas = [_delta(PieceKind.CALL, n, piece) for piece in pieces or ("{}",)]
        return [CallStarted(n, vendor_id, name), *deltas, PartEnded(n)]

    return parts


def does(action: Callable[[], object]) -> Spoken:
    """Run an action when the stream reaches this point, without a wait."""
    return lambda _: [action]


def searches(query: str, *pieces: Piece) -> Spoken:
    """Let the vendor search, with one source; `pieces` come between call and result."""

    def parts(n: int) -> list[Line]:
        return [
            CallStarted(n, "srv_1", "web_search", by_provider=True),
            Delta(n, PieceKind.CALL, msgspec.json.encode({"query": query}).decode()),
            PartEnded(n),
            *(piece for piece in pieces if isinstance(piece, Gate)),
            ProviderResult(n + 1, "srv_1", "web_search", "[]"),
            WholePart(n + 2, Source("https://example.org", title=query)),
        ]

    return parts


def _delta(kind: PieceKind, part: int, piece: Piece) -> AnswerPart | Gate:
    return piece if isinstance(piece, Gate) else Delta(part, kind, piece)


def deltas(parts: Iterable[AnswerPart], kind: PieceKind = PieceKind.TEXT) -> list[Delta]:
    """Return the deltas of one kind."""
    return [part for part in parts if isinstance(part, Delta) and part.kind is kind]


class ScriptedModel:
    """A model, its provider and its registry; it plays `says` and `fails` in order."""

    provider = "test"

    def __init__(self, name: str = MODEL) -> None:
        self.name = name
        #: Other models, each with a script of its own.
        self._others: dict[str, ScriptedModel] = {}
        #: Its own context window; None is unknown.
        self.context_limit: int | None = None
        self._scripts: deque[list[Line]] = deque()
        #: The request of each call, with the context as it was then.
        self.requests: list[ModelRequest] = []
        #: The very lists of messages that were passed.
        self.contexts: list[Sequence[object]] = []

    def says(
        self, *spoken: Spoken | Gate, finish: FinishReason | None = None, usage: Usage = USAGE
    ) -> None:
        """Script the next answer. Without `finish` the content determines the reason."""
        lines = _lines(spoken)
        has_calls = any(isinstance(it, CallStarted) and not it.by_provider for it in lines)
        fitting = FinishReason.TOOL_CALLS if has_calls else FinishReason.END_TURN
        self._scripts.append([*lines, Finished(finish or fitting, usage)])

    def fails(
        self,
        kind: ErrorKind,
        *spoken: Spoken | Gate,
        times: int = 1,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Script the next failures, each after this content."""
        failed = failure(
            kind,
            f"the model failed: {kind}",
            provider=self.provider,
            retry_after_seconds=retry_after_seconds,
        )
        for _ in range(times):
            self._scripts.append([*_lines(spoken), failed])

    def plays(self, *lines: Line) -> None:
        """Script the next answer with exactly these lines."""
        self._scripts.append(list(lines))

    def conversation(self) -> Conversation:
        """Begin the calls of one run, which share the scripts."""
        return self

    def add(self, name: str, *, context_limit: int | None = None) -> "ScriptedModel":
        """Add another model."""
        other = self._others[name] = ScriptedModel(name)
        other.context_limit = context_limit
        return other

    def get(self, name: str) -> Model:
        """Return this model, or one that was added. Raises ModelNotFound for another name."""
        if name in self._others:
            return self._others[name]
        if name != self.name:
            raise ModelNotFound(Violation("model", f"no model is called {name!r}"))
        return self

    def names(self) -> Sequence[str]:
        return (MODEL,)

    async def stream(self, request: ModelRequest) -> AsyncIterator[AnswerPart]:
        """Play the next script."""
        self.contexts.append(request.messages)
        copied = msgspec.structs.replace(request, messages=tuple(request.messages))
        self.requests.append(copied)
        assert self._scripts, "the model was called after the end of the script"
        for line in self._scripts.popleft():
            if isinstance(line, Gate):
                await line.pass_through()
            elif isinstance(line, Exception):
                raise line
            elif callable(line):
                line()
            else:
                yield line


def _lines(spoken: Iterable[Spoken | Gate]) -> list[Line]:
    lines: list[Line] = []
    parts = 0
    for one in spoken:
        new: list[Line] = [one] if isinstance(one, Gate) else one(parts)
        lines.extend(new)
        parts = 1 + max((it.part for it in lines if hasattr(it, "part")), default=-1)
    return lines


@dataclass(eq=False)
class ScriptedTool:
    """A tool that returns what the test scripted, and records its arguments."""

    name: str
    idempotent: bool = False
    ends_turn: bool = False
    exclusive: bool = False
    output: ToolOutput = field(default_factory=lambda: ToolOutput("done"))
    error: BaseException | None = None
    gate: Gate | None = None
    #: Called at the end of each run.
    then: Callable[[], object] | None = None
    #: How many cancellations it ignores.
    stubborn: bool = False
    #: Arguments of each run.
    runs: list[str] = field(default_factory=list)
    contexts: list[ToolContext] = field(default_factory=list)

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, f"the tool {self.name}", '{"type":"object"}')

    def gives(self, output: str, *, is_json: bool = False, is_error: bool = False) -> None:
        """Return this from now on."""
        self.output = ToolOutput(output, is_json, is_error)

    def hangs(self, *, stubborn: bool = False) -> Gate:
        """Wait in the next run until the gate is open; a stubborn tool ignores its cancellation."""
        self.gate = Gate()
        self.stubborn = stubborn
        return self.gate

    async def run(self, arguments: str, context: ToolContext) -> ToolOutput:
        """Run one call."""
        self.runs.append(arguments)
        self.contexts.append(context)
        gate, self.gate = self.gate, None
        if gate is not None:
            await self._stop_at(gate)
        if self.then is not None:
            self.then()
        if self.error is not None:
            raise self.error
        return self.output

    async def _stop_at(self, gate: Gate) -> None:
        while True:
            try:
                return await gate.pass_through()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise


class ScriptedTools:
    """The tools of a test; a `ToolSource`."""

    def __init__(self) -> None:
        #: How often the tools were requested.
        self.asked = 0
        self._tools: dict[str, ScriptedTool] = {}

    def add(
        self,
        name: str,
        *,
        idempotent: bool = False,
        ends_turn: bool = False,
        exclusive: bool = False,
    ) -> ScriptedTool:
        """Add a tool."""
        tool = self._tools[name] = ScriptedTool(name, idempotent, ends_turn, exclusive)
        return tool

    def remove(self, name: str) -> None:
        """Remove a tool, as an upgrade of the server may."""
        del self._tools[name]

    def release(self) -> None:
        """Let every tool end when it is cancelled, at the end of the test."""
        for tool in self._tools.values():
            tool.stubborn = False

    def version(self, chat: ChatState, model: str) -> Hashable:  # noqa: ARG002  the same for all
        """Return a value that changes with each `add` and `remove`."""
        return tuple(self._tools.values())

    async def tools(self, chat: ChatState, model: str) -> Sequence[Tool]:  # noqa: ARG002  the same for all
        self.asked += 1
        return tuple(self._tools.values())
