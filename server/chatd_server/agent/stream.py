"""One model call: the vendor's parts into the draft, as they come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatd_server.agent.draft import StepDraft
from chatd_server.agent.env import Env
from chatd_server.agent.held import Held
from chatd_server.agent.toolbox import Toolbox
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.message import Executor
from chatd_server.domain.stream import (
    CallDelta,
    CallStarted,
    Finished,
    PartEnded,
    ProviderResult,
    ReasoningDelta,
    RefusalDelta,
    StreamPart,
    TextDelta,
    UsageSeen,
    WholePart,
)
from chatd_server.observe import Span
from chatd_server.ports import ModelRequest


async def stream_model(step: StepDraft, held: Held, env: Env) -> None:
    """Fill the draft with one answer. Raises ModelFailure, Stopped."""
    toolbox = held.toolbox
    is_first = True
    async with held.stop.guard(), _closing(held.conversation.stream(request(held))) as parts:
        async for part in parts:
            if is_first:
                is_first = False
                env.observer.note(Span.FIRST_PART, chat=held.id, attempt=step.attempt_id)
            fold(part, step, toolbox)
    if not step.is_finished:
        raise failure(
            ErrorKind.GENERIC,
            "The model's stream ended without an end.",
            provider=held.model.provider,
            retryable=True,
        )


def request(held: Held) -> ModelRequest:
    """Return what the model is asked now."""
    turn = held.turn
    return ModelRequest(
        messages=held.prompt.messages,
        system=held.state.config.system_prompt,
        tools=held.toolbox.specs,
        effort=turn.options.effort,
        max_output_tokens=turn.options.max_output_tokens,
        temperature=turn.options.temperature,
        attempt_number=turn.attempt.number if turn.attempt else 1,
    )


def fold(part: StreamPart, step: StepDraft, toolbox: Toolbox) -> None:
    """Add one part to the draft."""
    match part:
        case TextDelta():
            step.text(part.part, part.text)
        case ReasoningDelta():
            step.reasoning(part.part, part.text)
        case CallDelta():
            step.arguments(part.part, part.arguments)
        case CallStarted():
            step.call(part, _executor_of(part, toolbox))
        case PartEnded():
            step.end(part.part, part.native, part.arguments)
        case ProviderResult():
            step.provider_result(part)
        case WholePart():
            step.whole(part.part, part.value)
        case UsageSeen():
            step.usage = part.usage
        case RefusalDelta():
            step.refusal(part.part, part.text)
        case Finished():
            step.finish(part.reason, part.usage)


def _executor_of(started: CallStarted, toolbox: Toolbox) -> Executor:
    return Executor.PROVIDER if started.by_provider else toolbox.executor_of(started.name)


@asynccontextmanager
async def _closing(
    parts: AsyncIterator[StreamPart],
) -> AsyncIterator[AsyncIterator[StreamPart]]:
    """Close the iterator, and so the connection, however the block ends."""
    try:
        yield parts
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
