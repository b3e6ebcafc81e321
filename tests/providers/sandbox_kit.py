"""Requests for the sandbox, and its answers as readable lines."""

from collections.abc import AsyncIterator, Iterable, Sequence

from chatd_server.domain.answer_parts import (
    AnswerPart,
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
    Restarted,
    UsageSeen,
    WholePart,
)
from chatd_server.domain.failure import ChatError, ModelFailure
from chatd_server.domain.ids import MessageId, ToolCallId, TurnId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    FinishReason,
    Message,
    Native,
    Part,
    Role,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
)
from chatd_server.ports.clock import Clock
from chatd_server.ports.models import ModelRequest
from chatd_server.providers.sandbox import PROVIDER, SandboxProvider
from chatd_server.providers.settings import ProviderSettings
from tests.kit.clock import ManualClock
from tests.kit.script import deltas


def message(
    role: Role,
    *parts: Part,
    position: int = 1,
    compressed: bool = False,
    finish: FinishReason | None = None,
) -> Message:
    """Return a message of some chat."""
    return Message(
        id=MessageId(f"m{position}"),
        position=position,
        role=role,
        parts=parts,
        turn_id=TurnId("t1"),
        created_at=0,
        sequence=position,
        compressed=compressed,
        summary_for=CompactionSource.AUTO if compressed else None,
        finish_reason=finish,
    )


def history(*said: tuple[Role, str]) -> list[Message]:
    """Return text messages in order; a tool's text is its result."""
    return [
        message(role, tool_result(words) if role is Role.TOOL else Text(words), position=number)
        for number, (role, words) in enumerate(said, 1)
    ]


def tool_result(output: str, error: ToolErrorKind | None = None) -> ToolResult:
    """Return a result of the tool "lookup"."""
    return ToolResult(ToolCallId("call_1"), "lookup", output, Executor.SERVER, 0, error=error)


def provider_call(
    arguments: str = '{"query":"cats"}', *, vendor_id: str = "call_1", of: str = PROVIDER
) -> ToolCall:
    """Return a search that a vendor began; our id is "id of" and the vendor's id."""
    return ToolCall(
        ToolCallId(f"id of {vendor_id}"),
        "web_search",
        arguments,
        Executor.PROVIDER,
        0,
        vendor_id=vendor_id,
        native=Native(of, "{}"),
    )


def request(text: str, *, attempt: int = 1) -> ModelRequest:
    """Return the first model request of a turn that began with this text."""
    return ModelRequest(messages=history((Role.USER, text)), attempt_number=attempt)


def stream(asked: ModelRequest | str, clock: Clock) -> AsyncIterator[AnswerPart]:
    """Stream from a new sandbox conversation."""
    model = SandboxProvider(ProviderSettings(), clock).model("echo")
    return model.conversation().stream(request(asked) if isinstance(asked, str) else asked)


async def played(asked: ModelRequest | str) -> tuple[list[AnswerPart], ChatError | None]:
    """Return the parts of an answer that does not wait, and its error."""
    seen: list[AnswerPart] = []
    try:
        async for part in stream(asked, ManualClock()):
            seen.append(part)  # noqa: PERF401  keeps the parts before a failure
    except ModelFailure as failed:
        return seen, failed.error
    return seen, None


async def parts_of(asked: ModelRequest | str) -> list[AnswerPart]:
    """Return the parts of an answer that neither waits nor fails."""
    seen, error = await played(asked)
    assert error is None
    return seen


async def lines_of(asked: ModelRequest | str) -> list[str]:
    """Return an answer as lines, one per part, and its finish reason."""
    return lines(await parts_of(asked))


async def text_of(asked: ModelRequest | str) -> str:
    """Return the text of an answer."""
    return "".join(part.text for part in deltas(await parts_of(asked)))


def lines(parts: Iterable[AnswerPart]) -> list[str]:
    """Fold parts like a message: deltas add up, a restart drops them."""
    shown: dict[int, str] = {}
    extra: list[str] = []
    for part in parts:
        match part:
            case Delta(number, PieceKind.CALL, text):
                shown[number] += text
            case Delta(number, kind, text):
                shown[number] = shown.get(number, f"{kind}: ") + text
            case CallStarted():
                who = "provider call" if part.by_provider else "call"
                shown[part.part] = f"{who} {part.vendor_id} {part.name} "
            case ProviderResult():
                shown[part.part] = f"provider result {part.vendor_id} {part.output}"
            case WholePart():
                shown[part.part] = str(part.value)
            case Restarted():
                shown.clear()
            case UsageSeen():
                extra.append(f"usage: {_usage(part.usage)}")
            case Finished(reason):
                extra.append(f"finish: {reason}")
            case PartEnded():
                pass
    return [shown[number] for number in sorted(shown)] + extra


def _usage(usage: object) -> str:
    fields: Sequence[str] = getattr(usage, "__struct_fields__", ())
    seen = {name: getattr(usage, name) for name in fields}
    return " ".join(f"{name}={value}" for name, value in seen.items() if value is not None)


def finished(parts: Sequence[AnswerPart]) -> Finished:
    """Return the last part, which must be Finished."""
    last = parts[-1]
    assert isinstance(last, Finished)
    return last


def reason_of(parts: Sequence[AnswerPart]) -> FinishReason:
    """Return why an answer ended."""
    return finished(parts).reason
