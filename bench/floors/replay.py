"""The floor of a replay: reads rows of the log, sends one frame for each event.

It reads the product's database, a page at a time in a thread, and sends the stored bytes
unchanged: it decodes nothing, decides nothing and checks no key.
"""

import asyncio
import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import Any

import grpc

from bench.floors import frames
from bench.floors.server import Floor, serve
from bench.loop import run_fast
from chatd.v1 import chat_service_pb2 as pb

PAGE = 200
_CHAT = "SELECT id FROM chats WHERE uuid = ?"
_EVENTS = """
SELECT e.sequence, coalesce(m.uuid, ''), coalesce(m.content, e.payload)
FROM events AS e LEFT JOIN messages AS m ON m.chat = e.chat AND m.position = e.position
WHERE e.chat = ? AND e.sequence > ? ORDER BY e.sequence LIMIT ?
"""


class ReplayFloor(Floor):
    """The floor's server, with a log to read."""

    def __init__(self, path: Path) -> None:
        super().__init__("127.0.0.1:1")
        self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    async def subscribe(self, request: bytes, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        """Answer Subscribe with everything after the cursor."""
        asked = pb.SubscribeRequest.FromString(request)
        sequence = asked.resume_from.sequence
        (chat,) = self._reader.execute(_CHAT, (asked.chat_id,)).fetchone()
        while rows := await asyncio.to_thread(self._page, chat, sequence):
            for sequence, message_id, content in rows:
                frame = frames.logged(sequence, message_id, content.decode())
                await context.write(frame.SerializeToString())
        await context.write(frames.caught_up().SerializeToString())

    def _page(self, chat: int, after: int) -> list[Any]:
        return self._reader.execute(_EVENTS, (chat, after, PAGE)).fetchall()


if __name__ == "__main__":

    async def main() -> None:
        await serve(ReplayFloor(Path(sys.argv[1])))

    with contextlib.suppress(KeyboardInterrupt):
        run_fast(main())
