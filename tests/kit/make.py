"""Values for tests of pure functions; a test states only the fields that it is about."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatd_server.domain.chat import OpenCall, Turn, TurnOptions
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId, ChatId, MessageId, ToolCallId, TurnId
from chatd_server.domain.live import CallHead, CompactionStart, PieceKind, PieceValue
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Visibility,
)
from chatd_server.ports.live import AttemptWriter
from chatd_server.ports.tools import ToolContext, ToolOutput, ToolSpec

TURN = TurnId("turn")


def user(*parts: Part | str, position: int = 1) -> Message:
    """Return a user's message."""
    return message(Role.USER, *parts, position=position)


def answer(
    *parts: Part | str, finish: FinishReason = FinishReason.END_TURN, position: int = 2
) -> Message:
    """Return a model's answer."""
    return message(Role.ASSISTANT, *parts, finish=finish, position=position)


def result(call_id: str, name: str = "shell", position: int = 3) -> Message:
    """Return a tool's message with one result."""
    part = ToolResult(ToolCallId(call_id), name, "done", Executor.SERVER, 0)
    return message(Role.TOOL, part, position=position)


def message(
    role: Role,
    *parts: Part | str,
    finish: FinishReason | None = None,
    position: int = 1,
    visibility: Visibility = Visibility.BOTH,
) -> Message:
    """Return a message; bare strings are text parts."""
    return Message(
        id=MessageId(f"message-{position}"),
        position=position,
        role=role,
        parts=tuple(Text(part) if isinstance(part, str) else part for part in parts),
        turn_id=TURN,
        created_at=0,
        sequence=position,
        finish_reason=finish,
        visibility=visibility,
    )


def call(
    call_id: str, executor: Executor = Executor.SERVER, name: str = "shell", vendor_id: str = ""
) -> ToolCall:
    """Return a tool call as in an answer."""
    return ToolCall(ToolCallId(call_id), name, "{}", executor, 0, vendor_id)


def provider_result(call_id: str) -> ToolResult:
    """Return a vendor's result as in an answer."""
    return ToolResult(ToolCallId(call_id), "search", "[]", Executor.PROVIDER, 0, is_json=True)


def open_call(
    call_id: str,
    executor: Executor = Executor.SERVER,
    name: str = "shell",
    started_at: int | None = None,
    outcome: ToolResult | None = None,
) -> OpenCall:
    """Return a call without a committed result."""
    return OpenCall(
        ToolCallId(call_id), name, executor, 0, "{}", started_at=started_at, outcome=outcome
    )


def turn(steps: int = 0, max_steps: int | None = None, **fields: Any) -> Turn:
    """Return an open turn."""
    return Turn(TURN, 1, TurnOptions(max_steps=max_steps), steps, **fields)


def summarised(*parts: Part | str, position: int = 9) -> Message:
    """Return the summary of a compaction."""
    made = message(Role.USER, *parts, position=position, visibility=Visibility.MODEL)
    return msgspec.structs.replace(made, compressed=True, summary_for=CompactionSource.AUTO)


@dataclass
class RecordingLive:
    """A `Live` that keeps what was shown, as readable lines."""

    lines: list[str] = field(default_factory=list)
    writers: list["RecordingWriter"] = field(default_factory=list)
    #: Number of results that fit into one attempt.
    results_max: int = 100

    def open(
        self,
        chat_id: ChatId,  # noqa: ARG002  the port's
        attempt_id: AttemptId,  # noqa: ARG002  the port's
        base_sequence: int,
    ) -> "RecordingWriter":
        """Open an attempt."""
        self.lines.append(f"attempt after {base_sequence}")
        writer = RecordingWriter(self.lines, self.results_max)
        self.writers.append(writer)
        return writer


@dataclass
class RecordingWriter(AttemptWriter):
    """The shown content of one attempt."""

    lines: list[str] = field(default_factory=list)
    results_max: int = 100
    texts: dict[int, str] = field(default_factory=dict)
    results: list[ToolResult] = field(default_factory=list)
    wholes: dict[int, Part] = field(default_factory=dict)
    is_abandoned: bool = False
    _calls: dict[int, str] = field(default_factory=dict)

    def add(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        """Keep a line; for a part or a result, keep its value too."""
        match kind, value:
            case PieceKind.CALL, CallHead():
                self._calls[part] = f"call {value.name} ({value.executor})"
                self._keep(self._calls[part], part, "")
            case PieceKind.TOOL_STARTED, CallHead():
                self.lines.append(f"{value.name} started")
            case PieceKind.TOOL_FINISHED, ToolResult():
                if len(self.results) == self.results_max:
                    raise failure(ErrorKind.OUTPUT_TOO_LARGE, "too many results")
                self.lines.append(f"{value.name} finished")
                self.results.append(value)
            case PieceKind.COMPACTION_STARTED, CompactionStart():
                self.lines.append(f"compaction ({value.source}) started")
            case _:
                assert not isinstance(value, CallHead | CompactionStart)
                self.lines.append(f"{part}: {type(value).__name__}")
                self.wholes[part] = value

    def add_when_committed(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        """Keep it at once: there is no commit here."""
        self.add(part, kind, value)

    def append(self, part: int, kind: PieceKind, text: str) -> None:
        """Keep text."""
        self._keep(self._calls[part] if kind is PieceKind.CALL else kind, part, text)

    def abandon(self) -> None:
        """Keep the end."""
        self.lines.append("abandoned")
        self.is_abandoned = True

    def _keep(self, kind: str, part: int, text: str) -> None:
        text.encode()  # shown text must be valid UTF-8
        self.lines.append(f"{part}: {kind} {text!r}")
        self.texts[part] = self.texts.get(part, "") + text


@dataclass(frozen=True)
class FixedTool:
    """A tool that returns its output at once."""

    name: str
    output: ToolOutput = field(default_factory=lambda: ToolOutput("done"))
    idempotent: bool = False
    ends_turn: bool = False
    exclusive: bool = False

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, f"the tool {self.name}", '{"type":"object"}')

    async def run(self, arguments: str, context: ToolContext) -> ToolOutput:  # noqa: ARG002  the port's
        return self.output
