"""One compaction: the model writes a summary, which is shown as it comes.

What is shown adds up to the message that is committed, byte for byte, as with an answer: first the
introduction, then the parts of the summary.
"""

from dataclasses import dataclass

from chatd_server.agent.compaction.decide import count_unanswered, has_answer, level_for
from chatd_server.agent.compaction.words import INTRODUCTION, REQUEST
from chatd_server.agent.model.attempt import closing
from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
from chatd_server.domain.answer_parts import AnswerPart, Delta, Finished, Restarted, UsageSeen
from chatd_server.domain.chat import AttemptKind
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import MessageId, new_uuid
from chatd_server.domain.live import CompactionStart, PieceKind
from chatd_server.domain.message import (
    CompactionSource,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    Visibility,
)
from chatd_server.observe import spans
from chatd_server.ports.models import Model, ModelRequest, Purpose, ToolChoice, ToolChoiceMode

_INTRODUCTION_PART = -1
"""Before the parts of any vendor."""

_WHY_UNUSABLE = {
    FinishReason.MAX_TOKENS: (
        ErrorKind.OUTPUT_TOO_LARGE,
        "The summary was cut off at the model's limit for one answer.",
    ),
    FinishReason.CONTEXT_EXCEEDED: (
        ErrorKind.CONTEXT_EXCEEDED,
        "The summary was cut off because the context is full.",
    ),
    FinishReason.CONTENT_FILTER: (
        ErrorKind.CONTENT_FILTER,
        "The provider's content filter cut off the summary.",
    ),
    FinishReason.REFUSAL: (ErrorKind.GENERIC, "The model refused to write a summary."),
    FinishReason.TOOL_CALLS: (ErrorKind.GENERIC, "The model called a tool instead of summarising."),
    FinishReason.PAUSED: (ErrorKind.GENERIC, "The model paused in the middle of the summary."),
}


@dataclass(frozen=True)
class Summary:
    """A complete summary, ready to commit."""

    parts: tuple[Part, ...]
    #: The parts of each message of the user that follows it unchanged.
    unanswered: tuple[tuple[Part, ...], ...]
    model: str


def summariser_of(held: Held, env: Env) -> Model:
    """Return the model that writes the chat's summaries. Raises ModelNotFound."""
    return env.models.get(env.compaction.model) if env.compaction.model else held.model


def level_of(held: Held, env: Env) -> ContextLevel:
    """Return how full the chat's context is. Raises ModelNotFound."""
    summariser = summariser_of(held, env) if env.compaction.model else None
    thresholds = env.compaction.thresholds
    return level_for(held.context, held.state.owner_id, held.model, summariser, thresholds)


async def summarise(source: CompactionSource, step: StepDraft, held: Held, env: Env) -> Summary:
    """Return a summary of the context. The draft is that of its attempt, also after a failure.

    Raises ModelFailure, Stopped, LeaseLost.
    """
    model = summariser_of(held, env)
    await held.refresh_tools()
    held.plan_attempt(AttemptKind.COMPACTION)
    await held.commit()
    attempt = held.attempt
    writer = env.live.open(held.id, attempt.id, attempt.base_sequence)
    step.begin(attempt.id, writer, keeps_partial=False)
    writer.add(0, PieceKind.COMPACTION_STARTED, CompactionStart(source))
    step.append(_INTRODUCTION_PART, PieceKind.TEXT, INTRODUCTION)
    env.observer.note(spans.CompactionStarted(chat=held.id, attempt=attempt.id, source=source))
    messages = held.prompt.messages
    if not has_answer(messages):
        raise failure(
            ErrorKind.GENERIC,
            "The context has no answer since its newest summary, so there is nothing to summarise.",
        )
    unanswered = count_unanswered(messages)
    await _stream(
        model, _request(messages[: len(messages) - unanswered], held, env), step, held, env
    )
    return Summary(
        parts=_checked(step, model),
        unanswered=tuple(it.parts for it in messages[len(messages) - unanswered :]),
        model=model.name,
    )


async def _stream(
    model: Model, request: ModelRequest, step: StepDraft, held: Held, env: Env
) -> None:
    """Add the text of the summary to the draft; everything else is dropped."""
    seconds = env.compaction.timeout_seconds
    try:
        async with (
            held.stop.guard(),
            env.clock.timeout(seconds, "compaction"),
            closing(model.conversation().stream(request)) as parts,
        ):
            async for part in parts:
                _fold(part, step)
    except TimeoutError as late:
        raise failure(
            ErrorKind.TIMEOUT,
            f"The summary took longer than {seconds:g} seconds.",
            provider=model.provider,
        ) from late


def _fold(part: AnswerPart, step: StepDraft) -> None:
    match part:
        case Delta(kind=PieceKind.TEXT):
            step.append(part.part, part.kind, part.text)
        case UsageSeen():
            step.usage = part.usage
        case Finished():
            step.finish(part)
        case Restarted():
            raise failure(ErrorKind.TIMEOUT, "The model began the summary a second time.")


def _checked(step: StepDraft, model: Model) -> tuple[Part, ...]:
    """Return the parts of the message. Raises ModelFailure if they are not a summary."""
    if not step.is_finished:
        raise failure(
            ErrorKind.TIMEOUT,
            "The model's stream ended before the summary was complete.",
            provider=model.provider,
        )
    answer = step.seal()
    why = _WHY_UNUSABLE.get(answer.finish_reason)
    if why is None and not any(
        part.text.strip() for part in answer.parts[1:] if isinstance(part, Text)
    ):
        why = (ErrorKind.GENERIC, "The model wrote an empty summary.")
    if why is not None:
        raise failure(*why, provider=model.provider)
    return answer.parts


def _request(messages: list[Message], held: Held, env: Env) -> ModelRequest:
    """Build the request. Vendors demand the tools of calls in the history, and cache them."""
    asks = Message(
        id=MessageId(new_uuid(env.clock.now())),
        position=held.state.next_position,
        role=Role.USER,
        parts=(Text(REQUEST),),
        turn_id=held.turn.id,
        created_at=env.clock.now(),
        sequence=0,
        visibility=Visibility.MODEL,
    )
    tools = held.toolbox.specs
    return ModelRequest(
        messages=[*messages, asks],
        system=held.state.config.system_prompt,
        tools=tools,
        tool_choice=ToolChoice(ToolChoiceMode.NONE) if tools else None,
        attempt_number=held.turn.compactions + 1,
        purpose=Purpose.SUMMARY,
    )
