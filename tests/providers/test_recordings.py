"""The exam of the vendors' adapters: recorded traffic over real HTTP on a loopback server.

CHATD_RECORDINGS names a folder with `expected.json` and one folder per dialect. Without it,
the exam is skipped with a reason.
"""

import json
import os
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatd_server.domain.answer_parts import AnswerPart, Finished
from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.domain.ids import MessageId, TurnId
from chatd_server.domain.message import Message, Role, Text
from chatd_server.ports.models import ModelRequest
from chatd_server.providers.anthropic.model import AnthropicModel
from chatd_server.providers.http.transport import Transport
from tests.kit.clock import ManualClock
from tests.kit.replay import Canned, ReplayServer, replay_server
from tests.providers.answers import Answer, expected_anthropic, folded, plain_anthropic

FOLDER = Path(
    os.environ.get("CHATD_RECORDINGS", Path(__file__).parents[2] / ".." / "shared" / "recordings")
)
FILES = sorted(FOLDER.glob("anthropic/*.json")) + sorted(FOLDER.glob("*/anthropic--*.json"))
NAMES = [f"{path.parent.name}/{path.name}" for path in FILES]

pytestmark = pytest.mark.skipif(
    not FILES, reason="no recordings: CHATD_RECORDINGS names no folder with anthropic/*.json"
)

KINDS: dict[int | str, ErrorKind] = {
    400: ErrorKind.CONFIG,
    401: ErrorKind.AUTH,
    402: ErrorKind.USAGE_LIMIT,
    403: ErrorKind.AUTH,
    404: ErrorKind.CONFIG,
    408: ErrorKind.TIMEOUT,
    413: ErrorKind.CONTEXT_EXCEEDED,
    429: ErrorKind.RATE_LIMIT,
    502: ErrorKind.TIMEOUT,
    503: ErrorKind.TIMEOUT,
    504: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
    "invalid_request_error": ErrorKind.CONFIG,
    "authentication_error": ErrorKind.AUTH,
    "billing_error": ErrorKind.USAGE_LIMIT,
    "permission_error": ErrorKind.AUTH,
    "not_found_error": ErrorKind.CONFIG,
    "request_too_large": ErrorKind.CONTEXT_EXCEEDED,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "timeout_error": ErrorKind.TIMEOUT,
    "overloaded_error": ErrorKind.OVERLOADED,
}
"""By the type of the error, else by the status; without either it is GENERIC."""
RETRYABLE = {ErrorKind.RATE_LIMIT, ErrorKind.TIMEOUT, ErrorKind.OVERLOADED}
RETRYABLE_GENERIC = {"api_error", "conflict_error", 409, 500}


class Exam:
    """A model that talks to the replay server, and one recording."""

    def __init__(self, server: ReplayServer, transport: Transport) -> None:
        self.server = server
        self.model = AnthropicModel(
            "claude-sonnet-4-5", api_key="key", base_url=server.url, transport=transport
        )

    async def stream(
        self, recording: dict[str, Any], chunks: list[bytes]
    ) -> AsyncIterator[AnswerPart]:
        """Yield the parts of one answer."""
        response = recording["response"]
        headers = {"content-type": "text/event-stream", **response["headers"]}
        self.server.answers = [Canned(response["status"], headers, chunks)]
        request = ModelRequest(messages=[_hello()])
        async for part in self.model.conversation().stream(request):
            yield part

    async def parts(self, recording: dict[str, Any], chunks: list[bytes]) -> list[AnswerPart]:
        """Return the parts of one answer."""
        return [part async for part in self.stream(recording, chunks)]


def _hello() -> Message:
    return Message(
        id=MessageId("m"),
        position=1,
        role=Role.USER,
        parts=(Text("hello"),),
        turn_id=TurnId("t"),
        created_at=0,
        sequence=1,
    )


@pytest.fixture
async def exam() -> AsyncIterator[Exam]:
    """Serve one exam."""
    transport = Transport(ManualClock())
    async with replay_server() as server:
        yield Exam(server, transport)
        await transport.close()


def _recording(path: Path) -> tuple[dict[str, Any], bytes]:
    recording = json.loads(path.read_text())
    body = recording["response"]["body"]
    text = body if isinstance(body, str) else json.dumps(body)
    return recording, text.encode()


def _is_streamed(recording: dict[str, Any], body: bytes) -> bool:
    return recording["response"]["status"] == 200 and not body.lstrip().startswith(b"{")


def _expected(path: Path, body: bytes) -> Answer:
    file = FOLDER / "expected.json"
    entries = json.loads(file.read_text()) if file.is_file() else {}
    entry = entries.get(f"{path.parent.name}/{path.name}")
    return expected_anthropic(entry) if entry else plain_anthropic(body.decode())


def _comparable(answer: Answer) -> dict[str, Any]:
    """Drop what no client can see: a text block without text."""
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
    blocks = answer.blocks if answer.text else [b for b in answer.blocks if b != "text"]
    return fields | {"blocks": blocks}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
async def test_recorded_answer_gives_its_parts(exam: Exam, path: Path) -> None:
    """Each recorded answer decodes as with the vendor's own library, in any chunks."""
    recording, body = _recording(path)
    if recording["response"]["status"] != 200 or _error_in(body) is not None:
        with pytest.raises(ModelFailure) as failed:
            await exam.parts(recording, [body])
        _check_error(recording, failed.value, body)
        return
    want = _comparable(_expected(path, body))
    dice = random.Random(path.name)
    for chunks in ([body], _cut_at_random(body, dice)):
        answer = folded(await exam.parts(recording, chunks))
        assert answer is not None
        assert _comparable(answer) == want


def _error_in(body: bytes) -> dict[str, Any] | None:
    """Return the error in a body or in an event of a stream, None if there is none."""
    for text in [body, *re.findall(rb"^data: ?(.*\"error\".*)$", body, re.MULTILINE)]:
        try:
            told = json.loads(text)
        except ValueError:
            continue
        if isinstance(told, dict) and told.get("type") == "error":
            return dict(told["error"])
    return None


def _check_error(recording: dict[str, Any], failed: ModelFailure, body: bytes) -> None:
    error = _error_in(body) or {}
    status = recording["response"]["status"]
    kind = KINDS.get(error.get("type", ""), KINDS.get(status, ErrorKind.GENERIC))
    words = str(error.get("message", "")).lower()
    if kind is ErrorKind.CONFIG and "prompt is too long" in words:
        kind = ErrorKind.CONTEXT_EXCEEDED
    if kind is ErrorKind.CONFIG and "credit balance" in words:
        kind = ErrorKind.USAGE_LIMIT
    assert failed.error.kind is kind
    assert failed.error.http_status == (None if status == 200 else status)
    should_retry = recording["response"]["headers"].get("x-should-retry")
    retryable = kind in RETRYABLE or (
        kind is ErrorKind.GENERIC and not RETRYABLE_GENERIC.isdisjoint({error.get("type"), status})
    )
    assert failed.error.retryable == (should_retry == "true" if should_retry else retryable)


async def _extend(parts: list[AnswerPart], stream: AsyncIterator[AnswerPart]) -> None:
    async for part in stream:
        parts.append(part)  # noqa: PERF401  keeps the parts before a failure


def _cut_at_random(body: bytes, dice: random.Random) -> list[bytes]:
    cuts = sorted({dice.randrange(1, len(body)) for _ in range(min(200, len(body) - 1))})
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]


STREAMED = [path for path in FILES if _is_streamed(*_recording(path))]


@pytest.mark.parametrize(
    "path", STREAMED, ids=[f"{path.parent.name}/{path.name}" for path in STREAMED]
)
async def test_recorded_answer_that_is_cut_is_a_retryable_failure(exam: Exam, path: Path) -> None:
    """A stream that ends before the last event fails, and none of its calls may run."""
    recording, body = _recording(path)
    last = max(body.rfind(b"message_stop"), body.rfind(b"event: error"))
    ends = [found.end() for found in re.finditer(rb"(?:\r?\n){2,}", body) if found.end() <= last]
    assert ends
    for end in ends:
        parts: list[AnswerPart] = []
        with pytest.raises(ModelFailure) as failed:
            await _extend(parts, exam.stream(recording, [body[:end]]))
        assert failed.value.error.kind is ErrorKind.TIMEOUT
        assert failed.value.error.retryable
        assert not any(isinstance(part, Finished) for part in parts)
