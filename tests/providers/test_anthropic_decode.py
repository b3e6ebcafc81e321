"""Cases without a recording: errors of every kind, odd text, and unknown events."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatd_server.domain.answer_parts import (
    AnswerPart,
    Delta,
    Finished,
    PartEnded,
    Restarted,
    WholePart,
)
from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.domain.ids import MessageId, TurnId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import FinishReason, Message, ProviderNote, Role, Text
from chatd_server.ports.models import ModelRequest
from chatd_server.providers.anthropic.decode import AnswerDecoder
from chatd_server.providers.anthropic.model import AnthropicModel
from chatd_server.providers.http.transport import Transport
from tests.kit.clock import ManualClock
from tests.kit.replay import Canned, ReplayServer, replay_server
from tests.kit.script import deltas

START = {"type": "message_start", "message": {"usage": {"input_tokens": 3}}}
STOP = {"type": "message_stop"}


def ended(reason: str = "end_turn") -> dict[str, Any]:
    """Return the last delta of an answer."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}}


def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """Return the start of a block."""
    content = {"type": kind, **fields}
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """Return a piece of a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def test_a_context_window_in_unknown_fields_is_learned() -> None:
    """Gateways add it to the message or to the usage; the tool's arguments are not searched."""
    start = {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 3}, "model_info": {"max_input_tokens": 90_000}},
    }
    end = {**ended(), "usage": {"output_tokens": 1, "contextWindow": "100000"}}
    *_, finished = decoded(start, end, STOP)
    assert isinstance(finished, Finished)
    assert finished.usage.context_limit == 100_000


def test_a_body_that_is_not_streamed_is_searched_too() -> None:
    """Its content is not: arguments may have such a key."""
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"context_window": 5}}
    body = {"content": [call], "stop_reason": "tool_use", "usage": {"input_tokens": 3}}
    decoder = AnswerDecoder("claude-sonnet-4-5")
    *_, finished = decoder.feed_whole(json.dumps(body).encode())
    assert isinstance(finished, Finished)
    assert finished.usage.context_limit is None
    *_, finished = AnswerDecoder("x").feed_whole(json.dumps({**body, "context_limit": 7}).encode())
    assert isinstance(finished, Finished)
    assert finished.usage.context_limit == 7


def stop(index: int) -> dict[str, Any]:
    """Return the end of a block."""
    return {"type": "content_block_stop", "index": index}


def decoded(*events: dict[str, Any] | bytes) -> list[AnswerPart]:
    """Return the parts of these events."""
    decoder = AnswerDecoder("claude-sonnet-4-5")
    return [
        part
        for event in events
        for part in decoder.feed(event if isinstance(event, bytes) else json.dumps(event).encode())
    ]


def test_unknown_events_are_ignored_and_blocks_kept() -> None:
    """Unknown events and deltas are ignored; an unknown block is sent back unchanged."""
    parts = decoded(
        START,
        {"type": "something_new", "x": 1},
        block(0, "hologram", depth=3),
        delta(0, "hologram_delta", light=1),
        stop(0),
        ended(),
        STOP,
    )
    (note,) = [part.value for part in parts if isinstance(part, WholePart)]
    assert isinstance(note, ProviderNote)
    assert note.block_type == "hologram"
    assert note.native is not None
    assert json.loads(note.native.json) == {"type": "hologram", "depth": 3}
    assert isinstance(parts[-1], Finished)


def test_half_an_emoji_in_each_of_two_deltas_reaches_the_draft() -> None:
    """The fast decoder rejects lone surrogates; the slow one passes them on to be joined."""
    parts = decoded(
        START,
        block(0, "text", text=""),
        rb'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\ud83d"}}',
        rb'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\ude42"}}',
        stop(0),
    )
    text = "".join(part.text for part in deltas(parts))
    assert text.encode("utf-16", "surrogatepass").decode("utf-16") == "🙂"


def test_a_signed_thought_with_half_an_emoji_can_be_sent_back() -> None:
    """Data that is sent back is well-formed, whatever the escapes contained."""
    parts = decoded(
        START,
        block(0, "thinking", thinking="", signature=""),
        b'{"type":"content_block_delta","index":0,'
        rb'"delta":{"type":"thinking_delta","thinking":"a\ud83d"}}',
        delta(0, "signature_delta", signature="s"),
        stop(0),
    )
    (end,) = [part for part in parts if isinstance(part, PartEnded)]
    assert end.native is not None
    assert json.loads(end.native.json)["thinking"] == "a\N{REPLACEMENT CHARACTER}"


def test_hidden_thinking_opens_its_part() -> None:
    """Its text is empty, and its signature still counts."""
    parts = decoded(START, block(0, "thinking", thinking="", signature="s"), stop(0))
    assert Delta(0, PieceKind.REASONING, "") in parts
    assert isinstance(parts[-1], PartEnded)
    assert parts[-1].native is not None


def test_a_call_with_its_input_at_once_has_its_arguments() -> None:
    """Some gateways send no deltas at all."""
    call = block(0, "tool_use", id="toolu_1", name="a", input={"x": 1})
    parts = decoded(START, call, stop(0), ended(), STOP)
    (end,) = [part for part in parts if isinstance(part, PartEnded)]
    assert json.loads(end.arguments or "") == {"x": 1}
    assert not deltas(parts, PieceKind.CALL)
    assert isinstance(parts[-1], Finished)
    assert parts[-1].reason is FinishReason.TOOL_CALLS


def test_a_second_start_voids_the_first() -> None:
    """A gateway retries by itself: the parts before are dropped."""
    parts = decoded(
        START,
        block(0, "text", text=""),
        delta(0, "text_delta", text="half"),
        START,
        block(0, "text", text=""),
        delta(0, "text_delta", text="whole"),
        stop(0),
        ended(),
        STOP,
    )
    after = parts[parts.index(Restarted()) + 1 :]
    assert [part.text for part in deltas(after)] == ["whole"]
    assert [part.part for part in deltas(after)] == [0]


@pytest.mark.parametrize(
    ("kind", "expected", "retryable"),
    [
        ("overloaded_error", ErrorKind.OVERLOADED, True),
        ("rate_limit_error", ErrorKind.RATE_LIMIT, True),
        ("api_error", ErrorKind.GENERIC, True),
        ("timeout_error", ErrorKind.TIMEOUT, True),
        ("authentication_error", ErrorKind.AUTH, False),
        ("something_new", ErrorKind.GENERIC, False),
    ],
)
def test_an_error_inside_a_stream_has_its_kind(
    kind: str, expected: ErrorKind, retryable: bool
) -> None:
    """HTTP 200 does not mean success: overload is more often an event than a status."""
    with pytest.raises(ModelFailure) as failed:
        decoded(START, {"type": "error", "error": {"type": kind, "message": "m"}})
    assert failed.value.error.kind is expected
    assert failed.value.error.retryable is retryable
    assert failed.value.error.detail == "m"


# --- over HTTP -------------------------------------------------------------------------------


@pytest.fixture
async def vendor() -> AsyncIterator[ReplayServer]:
    """A vendor on loopback."""
    async with replay_server() as server:
        yield server


async def asked(vendor: ReplayServer) -> list[AnswerPart]:
    """Return the parts of one call."""
    transport = Transport(ManualClock())
    model = AnthropicModel("m", api_key="k", base_url=vendor.url, transport=transport)
    message = Message(
        id=MessageId("m"),
        position=1,
        role=Role.USER,
        parts=(Text("hello"),),
        turn_id=TurnId("t"),
        created_at=0,
        sequence=1,
    )
    try:
        request = ModelRequest(messages=[message])
        return [part async for part in model.conversation().stream(request)]
    finally:
        await transport.close()


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "retryable"),
    [
        (402, {}, b"", ErrorKind.USAGE_LIMIT, False),
        (403, {}, b"", ErrorKind.AUTH, False),
        (409, {}, b'{"error":{"type":"conflict_error"}}', ErrorKind.GENERIC, True),
        (413, {}, b"<html>too large</html>", ErrorKind.CONTEXT_EXCEEDED, False),
        (429, {"retry-after": "7"}, b"", ErrorKind.RATE_LIMIT, True),
        (429, {"x-should-retry": "false"}, b"", ErrorKind.RATE_LIMIT, False),
        (500, {}, b'{"type":"error","error":{"type":"api_error"}}', ErrorKind.GENERIC, True),
        (502, {}, b"<html>bad gateway</html>", ErrorKind.TIMEOUT, True),
        (529, {}, b'{"error":{"type":"overloaded_error"}}', ErrorKind.OVERLOADED, True),
        (418, {}, b"", ErrorKind.GENERIC, False),
    ],
)
async def test_a_status_has_its_kind(
    vendor: ReplayServer,
    status: int,
    headers: dict[str, str],
    body: bytes,
    kind: ErrorKind,
    retryable: bool,
) -> None:
    """Even if a proxy answers with a page, or with nothing."""
    vendor.answers = [Canned(status, headers, [body] if body else [])]
    with pytest.raises(ModelFailure) as failed:
        await asked(vendor)
    error = failed.value.error
    assert (error.kind, error.http_status, error.retryable) == (kind, status, retryable)
    assert error.retry_after_seconds == (7 if "retry-after" in headers else None)


async def test_an_answer_that_is_not_streamed_is_an_answer(vendor: ReplayServer) -> None:
    """Whatever its headers are."""
    message = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    vendor.answers = [Canned(200, {}, [b" \n", json.dumps(message).encode()])]
    parts = await asked(vendor)
    assert Delta(0, PieceKind.TEXT, "Hi") in parts
    assert isinstance(parts[-1], Finished)


async def test_a_body_that_is_neither_is_a_cut_answer(vendor: ReplayServer) -> None:
    """No part of it counts as success."""
    for body in (b"hello", b"data: {broken\n\n", b"{broken", b""):
        vendor.answers = [Canned(200, {}, [body] if body else [])]
        with pytest.raises(ModelFailure) as failed:
            await asked(vendor)
        assert failed.value.error.kind is ErrorKind.TIMEOUT
        assert failed.value.error.retryable
