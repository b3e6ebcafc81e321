"""A vendor on loopback that speaks Anthropic's stream and stops in the middle of an answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

BEGIN: list[dict[str, object]] = [
    {
        "type": "message_start",
        "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
]
END: list[dict[str, object]] = [
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 3},
    },
    {"type": "message_stop"},
]


class GatedVendor:
    """Its first answer is "old " and, once the gate is open, "words"; later ones are "new"."""

    def __init__(self) -> None:
        self.url = ""
        self.gate = asyncio.Event()
        #: The last thing that users said, in each request.
        self.asked: list[str] = []
        self._half = asyncio.Event()

    async def stands_still(self) -> None:
        """Wait until half of the first answer was sent."""
        await self._half.wait()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(json.dumps(body["messages"][-1]))
        is_first = len(self.asked) == 1
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await _send(response, *BEGIN, _text("old " if is_first else "new"))
        if is_first:
            self._half.set()
            await self.gate.wait()
            await _send(response, _text("words"))
        await _send(response, *END)
        await response.write_eof()
        return response


def _text(words: str) -> dict[str, object]:
    delta = {"type": "text_delta", "text": words}
    return {"type": "content_block_delta", "index": 0, "delta": delta}


async def _send(response: web.StreamResponse, *events: dict[str, object]) -> None:
    for event in events:
        await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


@asynccontextmanager
async def gated_vendor() -> AsyncIterator[GatedVendor]:
    """Serve until the context exits."""
    vendor = GatedVendor()
    app = web.Application()
    app.router.add_post("/{path:.*}", vendor._answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    vendor.url = f"http://{host}:{port}"
    try:
        yield vendor
    finally:
        vendor.gate.set()
        await runner.cleanup()
