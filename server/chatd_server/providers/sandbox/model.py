"""The sandbox as a `Model`: the messages alone determine the next answer."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from chatd_server.domain.answer_parts import AnswerPart
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
from chatd_server.ports.clock import Clock
from chatd_server.ports.models import Conversation, ModelRequest, Purpose
from chatd_server.providers.sandbox import talk
from chatd_server.providers.sandbox.grammar import parse
from chatd_server.providers.sandbox.plan import PROVIDER, Answer, Found, Plan
from chatd_server.providers.sandbox.player import play
from chatd_server.providers.sandbox.script import CONTEXT_LIMIT_TOKENS, Circumstances, Script
from chatd_server.providers.sandbox.words import count
from chatd_server.providers.settings import ProviderSettings

MODEL = "echo"
"""The sandbox's only model."""
SMALL_CHARACTERS_MAX = 16_384
"""Longer messages are parsed in a thread; shorter ones take a few milliseconds at most."""
SMALL_PARTS_MAX = 256
"""Up to this many messages or parts are checked on the event loop."""


class Position(msgspec.Struct, frozen=True):
    """The state of a turn: the message that began it, the number of answers, the newest results."""

    asked: Message | None
    answers: int
    results: tuple[ToolResult, ...]


def position(messages: Sequence[Message]) -> Position:
    """Derive the state of the newest turn from its messages, so that any worker can continue it.

    After a compaction in the middle of a turn, the summary says what was asked.
    """
    answers = 0
    results: list[ToolResult] = []
    for message in reversed(messages):
        if message.role is Role.USER:
            return Position(message, answers + talk.already_given(message), tuple(results))
        if message.role is Role.TOOL and answers == 0:
            results[:0] = message.results
        answers += message.role is Role.ASSISTANT
    return Position(None, answers, tuple(results))


def left_open(messages: Sequence[Message]) -> tuple[Found, ...]:
    """Return the results of the searches that the paused answers at the end began, oldest first.

    As with a real vendor, nothing is stored: the call that is sent back determines its result.
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


def owed(request: ModelRequest, here: Position, plan: Plan) -> Answer:
    """Return the answer to a request; after a pause it begins with the results of the search."""
    answer = _asked_for(request, here, plan)
    found = () if request.purpose is Purpose.SUMMARY else left_open(request.messages)
    return Answer((*found, *answer.acts), answer.finish)


def _asked_for(request: ModelRequest, here: Position, plan: Plan) -> Answer:
    """Return the answer that the user's message plans for this step."""
    if request.purpose is Purpose.TITLE:
        return talk.title_of(here.asked)
    if request.purpose is Purpose.SUMMARY:
        return plan.summary or talk.summary_of(here.asked, here.answers)
    if plan.problems:
        return talk.complaint(plan.problems)
    if here.answers < len(plan.answers):
        return plan.answers[here.answers]
    if here.answers == 0 and here.asked is not None and here.asked.summary_for is not None:
        return talk.go_on()
    if here.answers == 0:
        return talk.echo(here.asked, request.tools)
    return talk.summary(here.results)


class SandboxConversation:
    """The calls of one run. It caches the length of messages and the plan of the user's message.

    Long messages are parsed in a thread, so that other chats do not wait.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lengths: dict[MessageId, int] = {}
        self._plan: tuple[Message | None, Plan] = (None, Plan())

    async def stream(self, request: ModelRequest) -> AsyncGenerator[AnswerPart, None]:
        """Yield the parts of the next answer. Raises ModelFailure."""
        await self._measure(request.messages)
        is_summary = request.purpose is Purpose.SUMMARY
        # The last message asks for the summary of those before it.
        here = position(request.messages[:-1] if is_summary else request.messages)
        # A title is that of a quoted conversation, whose directives are not for this call.
        is_title = request.purpose is Purpose.TITLE
        plan = Plan() if is_title else await self._planned(here.asked)
        circumstances = Circumstances(
            input_tokens=len(request.system.split())
            + sum(self._lengths[message.id] for message in request.messages),
            attempt_number=request.attempt_number,
            max_output_tokens=request.max_output_tokens,
            was_compacted=is_summary or any(message.compressed for message in request.messages),
        )
        script = Script(owed(request, here, plan), circumstances)
        async with aclosing(play(script.beats(), self._clock)) as parts:
            async for part in parts:
                yield part

    async def _measure(self, messages: Sequence[Message]) -> None:
        """Measure the new messages."""
        new = [message for message in messages if message.id not in self._lengths]
        if _is_small(new):
            self._lengths |= _lengths(new)
        else:
            self._lengths |= await asyncio.to_thread(_lengths, new)

    async def _planned(self, asked: Message | None) -> Plan:
        """Return the plan of a message; it is parsed once per run."""
        if self._plan[0] is not asked:
            text = talk.said(asked)
            is_small = len(text) <= SMALL_CHARACTERS_MAX
            plan = parse(text) if is_small else await asyncio.to_thread(parse, text)
            self._plan = (asked, plan)
        return self._plan[1]


class SandboxModel:
    """The deterministic model. It never uses the network."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def name(self) -> str:
        return f"{PROVIDER}/{MODEL}"

    @property
    def provider(self) -> str:
        return PROVIDER

    @property
    def context_limit(self) -> int:
        return CONTEXT_LIMIT_TOKENS

    def conversation(self) -> Conversation:
        return SandboxConversation(self._clock)


class SandboxProvider:
    """The sandbox's provider, with one model. It needs no settings and has no connections."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:  # noqa: ARG002  the same for every adapter
        self._clock = clock

    def model(self, name: str) -> SandboxModel:
        """Return the model. Raises ModelNotFound for any name but "echo"."""
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


def _is_small(messages: Sequence[Message]) -> bool:
    """Return whether the messages are short enough for the event loop."""
    if len(messages) > SMALL_PARTS_MAX:
        return False
    parts = 0
    characters = 0
    for message in messages:
        parts += len(message.parts)
        if parts > SMALL_PARTS_MAX:
            return False
        characters += sum(map(len, _words(message)))
    return characters <= SMALL_CHARACTERS_MAX


def _lengths(messages: Sequence[Message]) -> dict[MessageId, int]:
    return {message.id: sum(map(count, _words(message))) for message in messages}


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
