"""The sandbox behind the Model port: which answer is owed is read from the messages alone."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from chatd_server.domain.ids import MessageId, ToolCallId
from chatd_server.domain.message import (
    FinishReason,
    Message,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from chatd_server.domain.refusal import ModelNotFound, Violation
from chatd_server.domain.stream import StreamPart
from chatd_server.ports import Clock, Conversation, ModelRequest
from chatd_server.providers.sandbox import talk
from chatd_server.providers.sandbox.grammar import parse
from chatd_server.providers.sandbox.plan import PROVIDER, Answer, Found
from chatd_server.providers.sandbox.player import play
from chatd_server.providers.sandbox.script import Circumstances, Script
from chatd_server.providers.settings import ProviderSettings

MODEL = "echo"
"""The only model of the sandbox."""


class Position(msgspec.Struct, frozen=True):
    """Where a turn stands: the words that began it, the answers given, the newest results."""

    asked: Message | None
    answers: int
    results: tuple[ToolResult, ...]


def position(messages: Sequence[Message]) -> Position:
    """Read where the newest turn stands from its messages, so that any worker can go on.

    A summary that a compaction left is no word of the user's.
    """
    answers = 0
    results: list[ToolResult] = []
    for message in reversed(messages):
        if message.role is Role.USER and not message.compressed:
            return Position(message, answers, tuple(results))
        if message.role is Role.TOOL and answers == 0:
            results[:0] = message.results
        answers += message.role is Role.ASSISTANT
    return Position(None, answers, tuple(results))


def left_open(messages: Sequence[Message]) -> tuple[Found, ...]:
    """Return what came of the searches that the paused answers at the end began, oldest first.

    The call that comes back says what is owed, as it does for a vendor, who keeps nothing either.
    """
    calls: list[ToolCall] = []
    answered: set[ToolCallId] = set()
    for message in reversed(messages):
        if message.finish_reason is not FinishReason.PAUSED:
            break
        calls[:0] = message.calls
        answered |= {result.call_id for result in message.results}
    return tuple(
        Found(call.vendor_id, call.arguments)
        for call in calls
        if call.id not in answered and call.native is not None and call.native.provider == PROVIDER
    )


def owed(request: ModelRequest) -> Answer:
    """Return the answer that a request is owed; behind a pause it begins with what was found."""
    answer = _asked_for(request)
    return Answer((*left_open(request.messages), *answer.acts), answer.finish)


def _asked_for(request: ModelRequest) -> Answer:
    """Return what the user's words ask for at this step."""
    here = position(request.messages)
    plan = parse(talk.said(here.asked))
    if plan.problems:
        return talk.complaint(plan.problems)
    if here.answers < len(plan.answers):
        return plan.answers[here.answers]
    if here.answers == 0:
        return talk.echo(here.asked, request.tools)
    return talk.summary(here.results)


class SandboxConversation:
    """The calls of one run. It remembers how long messages are, and nothing else."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lengths: dict[MessageId, int] = {}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """Yield the parts of the answer that is owed. Raises ModelFailure."""
        circumstances = Circumstances(
            input_tokens=len(request.system.split()) + sum(map(self._length, request.messages)),
            attempt_number=request.attempt_number,
            max_output_tokens=request.max_output_tokens,
            was_compacted=any(message.compressed for message in request.messages),
        )
        script = Script(owed(request), circumstances)
        async with aclosing(play(script.beats(), self._clock)) as parts:
            async for part in parts:
                yield part

    def _length(self, message: Message) -> int:
        if message.id not in self._lengths:
            self._lengths[message.id] = sum(len(words.split()) for words in _words(message))
        return self._lengths[message.id]


class SandboxModel:
    """The deterministic model. It never uses the network."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def name(self) -> str:
        """Return "sandbox/echo"."""
        return f"{PROVIDER}/{MODEL}"

    @property
    def provider(self) -> str:
        """Return "sandbox"."""
        return PROVIDER

    def conversation(self) -> Conversation:
        """Begin the calls of one run."""
        return SandboxConversation(self._clock)


class SandboxProvider:
    """The sandbox's one model. It needs no settings, and holds no connections."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:  # noqa: ARG002  every adapter takes the same
        self._clock = clock

    def model(self, name: str) -> SandboxModel:
        """Return the model; raises ModelNotFound for any name but "echo"."""
        if name != MODEL:
            raise ModelNotFound(
                Violation(
                    "model", f"the sandbox has one model, {PROVIDER}/{MODEL}; not {name[:64]!r}"
                ),
                models=(f"{PROVIDER}/{MODEL}",),
            )
        return SandboxModel(self._clock)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _words(message: Message) -> list[str]:
    words: list[str] = []
    for part in message.parts:
        match part:
            case Text() | Reasoning() | Refusal():
                words.append(part.text)
            case ToolCall():
                words.append(part.arguments)
            case ToolResult():
                words.append(part.output)
            case _:
                pass
    return words
