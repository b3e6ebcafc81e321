"""Encoding of a request's body, alone: the cost that step 200 has and step 10 has not."""

import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

import msgspec

from bench.context import Context
from bench.result import Row, Sample, Sides, alternate, row
from chatd_server.clock import RealClock
from chatd_server.domain.ids import AttemptId, MessageId, ToolCallId, TurnId
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from chatd_server.ports.models import ModelRequest
from chatd_server.providers.anthropic.model import AnthropicConversation
from chatd_server.providers.http.transport import Transport

EARLY = (5, 15)
LATE = (195, 205)
TURNS = 5
"""Turns per sample; the median of each step counts."""
MESSAGE_BYTES = 2048

_FLOOR_HEAD = b'{"model":"claude-sonnet-4-6","stream":true,"max_tokens":32000,"messages":['


def history(steps: int) -> list[Message]:
    """Return a question, and for each step two messages with 2 KB in total."""
    messages = [_message(1, Role.USER, Text("go"))]
    for step in range(steps):
        call = ToolCall(ToolCallId(f"call_{step}"), "current_time", "{}", Executor.SERVER, 0)
        result = ToolResult(call.id, call.name, '{"time":"now"}', Executor.SERVER, 0, is_json=True)
        messages.append(_message(2 * step + 2, Role.ASSISTANT, Text("x" * MESSAGE_BYTES), call))
        messages.append(_message(2 * step + 3, Role.TOOL, result))
    return messages


def _message(position: int, role: Role, *parts: Part) -> Message:
    return Message(
        id=MessageId(f"message-{position}"),
        position=position,
        role=role,
        parts=parts,
        turn_id=TurnId("turn"),
        created_at=0,
        sequence=position,
        attempt_id=AttemptId("attempt"),
        finish_reason=FinishReason.TOOL_CALLS if role is Role.ASSISTANT else None,
    )


def _product(messages: Sequence[Message]) -> list[float]:
    conversation = AnthropicConversation("claude-sonnet-4-6", "", {}, Transport(RealClock()))
    return _timed(
        lambda known: conversation.encode(ModelRequest(messages=messages[:known])), len(messages)
    )


def _floor(messages: Sequence[Message]) -> list[float]:
    # Every fragment with a trailing comma, so that one join makes the body.
    fragments = [_encoded(it) + b"," for it in messages]
    kept: list[bytes] = []

    def encode(known: int) -> bytes:
        kept.extend(fragments[len(kept) : known])
        return b"".join((_FLOOR_HEAD, *kept, b"]}"))

    return _timed(encode, len(messages))


def _naive(messages: Sequence[Message]) -> list[float]:
    plain = [msgspec.json.decode(_encoded(it)) for it in messages]
    return _timed(lambda known: msgspec.json.encode({"messages": plain[:known]}), len(messages))


def _timed(encode: Callable[[int], bytes], messages: int) -> list[float]:
    """Return the CPU microseconds of each step's request."""
    spent = []
    for known in range(1, messages + 1, 2):
        began = time.thread_time_ns()
        encode(known)
        spent.append((time.thread_time_ns() - began) / 1000)
    return spent


def _encoded(message: Message) -> bytes:
    role = "assistant" if message.role is Role.ASSISTANT else "user"
    return msgspec.json.encode({"role": role, "content": message.parts})


async def encode_10_200(context: Context) -> list[Row]:
    """Compare `conversation.encode` with a join of already encoded fragments."""
    early, late = (EARLY, LATE) if not context.quick else ((3, 6), (12, 15))
    messages = history(late[1] + 1)

    def sampling(
        turn: Callable[[Sequence[Message]], list[float]],
    ) -> Callable[[], Awaitable[Sample]]:
        async def sample() -> Sample:
            turns = [turn(messages) for _ in range(TURNS)]
            steps = [median(step) for step in zip(*turns, strict=True)]
            first, last = median(steps[slice(*early)]), median(steps[slice(*late)])
            return Sample(last, {"step_10_us": first, "growth_us": last - first})

        return sample

    sides: Sides = {
        "product": sampling(_product),
        "floor": sampling(_floor),
        "naive": sampling(_naive),
    }
    samples = await alternate(sides, context.rounds, context.progress)
    return [row("encode_10_200", "CPU us of the request of step 200", samples)]
