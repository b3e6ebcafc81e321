"""A fake vendor: HTTP/1.1 server-sent events in Anthropic's format, from prepared bytes.

Run as a program, it prints its address. The newest user's message tells it what to do
(`bench.directive`), so product, floor and naive stack get the same instructions.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Mapping
from typing import cast

from bench.cpu import cpu_seconds
from bench.directive import Directive, directive_in
from bench.loop import run_fast

SLOTS = 20
"""Streams of one rate are spread over this many moments of a period, like independent streams."""
WRITE_BUFFER_BYTES = 1 << 30
"""A burst never waits for its reader: the reader is what the bench measures."""
TOOL = "current_time"
"""The tool that steps call; it is built into the product."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


def _event(kind: str, **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _block(index: int, block: Mapping[str, object], delta: Mapping[str, object]) -> bytes:
    return (
        _event("content_block_start", index=index, content_block=block)
        + _event("content_block_delta", index=index, delta=delta)
        + _event("content_block_stop", index=index)
    )


_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "bench",
    "content": [],
    "usage": {"input_tokens": 10, "output_tokens": 1},
}
_START = _event("message_start", message=_MESSAGE)
_TEXT_START = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_TEXT_STOP = _event("content_block_stop", index=0)
_DELTA = _event(
    "content_block_delta", index=0, delta={"type": "text_delta", "text": "@STAMP token "}
)
_DELTA_BEFORE, _DELTA_AFTER = _DELTA.split(b"STAMP")


def _stop(reason: str) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    usage = {"output_tokens": 100}
    return _event("message_delta", delta=delta, usage=usage) + _event("message_stop")


_DONE = _TEXT_STOP + _stop("end_turn")


def stamped(nanoseconds: int) -> bytes:
    """Return one delta with its send time: 155 bytes, like a vendor's."""
    return _DELTA_BEFORE + b"%019d" % nanoseconds + _DELTA_AFTER


def burst(tokens: int) -> bytes:
    """Return a whole answer, one chunk per event."""
    deltas = _chunk(stamped(0)) * tokens
    return _HEAD + _chunk(_START + _TEXT_START) + deltas + _chunk(_DONE) + _END


def step(directive: Directive, results: int) -> bytes:
    """Return the answer of one step: text and a call, or one word after the last step."""
    if results >= directive.steps:
        return burst(1)
    text = ("lorem ipsum " * (directive.bytes // 12 + 1))[: directive.bytes] or "."
    body = _START + _block(
        0, {"type": "text", "text": ""}, {"type": "text_delta", "text": f"{results} {text}"}
    )
    call = {"type": "tool_use", "id": f"toolu_{results:08d}", "name": TOOL, "input": {}}
    body += _block(1, call, {"type": "input_json_delta", "partial_json": "{}"})
    return _HEAD + _chunk(body + _stop("tool_use")) + _END


class Wheel:
    """Sends a delta to each stream of one rate, once per period, from one timer."""

    def __init__(self, rate: int) -> None:
        self._pause = 1 / rate / SLOTS
        self._slots: list[deque[_Paced]] = [deque() for _ in range(SLOTS)]
        self._next = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, stream: "_Paced") -> None:
        """Add a stream to the slot with the fewest streams."""
        min(self._slots, key=len).append(stream)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._turn())

    async def _turn(self) -> None:
        due = time.monotonic()
        while any(self._slots):
            slot = self._slots[self._next]
            self._next = (self._next + 1) % SLOTS
            for _ in range(len(slot)):
                stream = slot.popleft()
                if stream.tick():
                    slot.append(stream)
            due += self._pause
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._task = None


class _Paced:
    """One stream that is sent at a fixed rate."""

    def __init__(self, transport: asyncio.Transport, tokens: int) -> None:
        self._transport = transport
        self._left = tokens

    def tick(self) -> bool:
        """Send the next delta; return whether there is more."""
        if self._transport.is_closing():
            return False
        self._left -= 1
        delta = _chunk(stamped(time.time_ns()))
        if self._left <= 0:
            self._transport.write(delta + _chunk(_DONE) + _END)
            return False
        self._transport.write(delta)
        return True


class Provider:
    """The state that all connections share."""

    def __init__(self) -> None:
        self._wheels: dict[int, Wheel] = {}
        self._bursts: dict[int, bytes] = {}
        #: (results so far, CPU seconds of the watched process, bytes of the request).
        self.samples: list[tuple[int, float, int]] = []

    def answer(self, body: bytes, transport: asyncio.Transport) -> None:
        directive = directive_in(body)
        if directive.hold:
            transport.write(_HEAD + _chunk(_START + _TEXT_START))
        elif directive.steps:
            results = body.count(b'"tool_result"')
            if directive.pid:
                self.samples.append((results, cpu_seconds(directive.pid), len(body)))
            transport.write(step(directive, results))
        elif directive.rate:
            transport.write(_HEAD + _chunk(_START + _TEXT_START))
            wheel = self._wheels.setdefault(directive.rate, Wheel(directive.rate))
            wheel.add(_Paced(transport, directive.tokens))
        else:
            tokens = directive.tokens
            if tokens not in self._bursts:
                self._bursts[tokens] = burst(tokens)
            transport.write(self._bursts[tokens])

    def report(self, transport: asyncio.Transport) -> None:
        """Send the samples and clear them."""
        body = json.dumps(self.samples).encode()
        self.samples = []
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        transport.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))


class _Connection(asyncio.Protocol):
    """The part of HTTP/1.1 that the three clients use."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._data[:end]).lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._data) < end + 4 + length:
                return
            body = bytes(self._data[end + 4 : end + 4 + length])
            del self._data[: end + 4 + length]
            if head.startswith(b"get "):
                self._provider.report(self._transport)
            else:
                self._provider.answer(body, self._transport)


async def main() -> None:
    """Listen on a free port and print it."""
    provider = Provider()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(provider), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run_fast(main())
