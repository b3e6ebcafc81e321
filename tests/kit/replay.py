"""A vendor on loopback that answers each request with the next prepared response."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web


class Canned(msgspec.Struct, frozen=True):
    """One response: a status, headers, and the body in the chunks in which it is sent."""

    status: int
    headers: dict[str, str]
    chunks: Sequence[bytes]


class ReplayServer:
    """Real HTTP on a loopback port; `requests` are the received bodies."""

    def __init__(self) -> None:
        self.answers: list[Canned] = []
        self.requests: list[bytes] = []
        self.url = ""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.read())
        canned = self.answers.pop(0)
        response = web.StreamResponse(status=canned.status, headers=canned.headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in canned.chunks:
            await response.write(chunk)
        await response.write_eof()
        return response


@asynccontextmanager
async def replay_server() -> AsyncIterator[ReplayServer]:
    """Serve until the context exits."""
    server = ReplayServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", server._answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
