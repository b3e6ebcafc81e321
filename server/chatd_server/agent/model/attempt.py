"""One model call: adds the vendor's parts to the draft as they arrive."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
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
from chatd_server.domain.chat import AttemptKind
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.limits import RESTARTS_MAX
from chatd_server.domain.message import Executor
from chatd_server.observe import spans
from chatd_server.ports.models import ModelRequest


async def stream_model(step: StepDraft, held: Held, env: Env) -> None:
    """Fill the draft with one answer. Raises ModelFailure, Stopped, LeaseLost."""
    await held.refresh_tools()
    await begin_attempt(step, held, env)
    restarts = 0
    async with closing(held.conversation.stream(request(held))) as parts:
        while await _fold_until_restarted(parts, step, held, env):
            restarts += 1
            if restarts > RESTARTS_MAX:
                raise failure(
                    ErrorKind.TIMEOUT,
                    "The model restarted its answer too often.",
                    provider=held.model.provider,
                )
            # The parts shown so far are void, but what an attempt shows must be a prefix of what it
            # commits. So the answer continues as another attempt.
            step.abandon()
            await begin_attempt(step, held, env)
    if not step.is_finished:
        raise failure(
            ErrorKind.GENERIC,
            "The model's stream ended before the answer was complete.",
            provider=held.model.provider,
            retryable=True,
        )


async def begin_attempt(step: StepDraft, held: Held, env: Env) -> None:
    """Commit the start of an attempt, together with the step before it; then show it."""
    attempt = held.take_begun()
    if attempt is None:
        held.plan_attempt(AttemptKind.MODEL)
        await held.commit()
        attempt = held.attempt
    writer = env.live.open(held.id, attempt.id, attempt.base_sequence)
    step.begin(attempt.id, writer, held.prompt.asked)
    env.observer.note(spans.AttemptStarted(chat=held.id, attempt=attempt.id, number=attempt.number))


async def _fold_until_restarted(
    parts: AsyncIterator[AnswerPart], step: StepDraft, held: Held, env: Env
) -> bool:
    """Add parts to the draft; return True if the vendor restarted instead of ending."""
    toolbox = held.toolbox
    is_first = True
    async with held.stop.guard():
        async for part in parts:
            if isinstance(part, Restarted):
                return True
            if is_first:
                is_first = False
                env.observer.note(spans.FirstPart(chat=held.id, attempt=step.attempt_id))
            fold(part, step, toolbox)
    return False


def request(held: Held) -> ModelRequest:
    """Build the request for the next model call."""
    turn = held.turn
    return ModelRequest(
        messages=held.prompt.messages,
        system=held.state.config.system_prompt,
        tools=held.toolbox.specs,
        previous_response_id=held.prompt.response_id_of(held.model.name),
        effort=turn.options.effort,
        max_output_tokens=turn.options.max_output_tokens,
        temperature=turn.options.temperature,
        attempt_number=turn.attempt.number if turn.attempt else 1,
    )


def fold(part: AnswerPart, step: StepDraft, toolbox: Toolbox) -> None:
    match part:
        case Delta():
            step.append(part.part, part.kind, part.text)
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
        case Finished():
            step.finish(part)


def _executor_of(started: CallStarted, toolbox: Toolbox) -> Executor:
    return Executor.PROVIDER if started.by_provider else toolbox.executor_of(started.name)


@asynccontextmanager
async def closing(
    parts: AsyncIterator[AnswerPart],
) -> AsyncIterator[AsyncIterator[AnswerPart]]:
    """Close the iterator, and so the connection, however the block ends."""
    try:
        yield parts
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
