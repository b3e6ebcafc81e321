"""One timer for all streams: heartbeats, and the end of streams at their maximum age."""

import asyncio
import heapq
from itertools import count

from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.hub.reader import EARLY, Reader
from chatd_server.ports.clock import Clock

HEARTBEAT_TAG = "hub.heartbeat"
"""The tag by which tests find this wait on their clock."""


class Pulse:
    """Wakes each reader when it is due. Has a task only while there are readers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[Instant, int, Reader]] = []
        self._order = count()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None
        self._sooner: asyncio.Future[None] | None = None

    def add(self, reader: Reader) -> None:
        """Wake a reader when it is due, until it is closed."""
        self._readers += 1
        self._push(reader, reader.due_at)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="hub.pulse")
        elif self._due[0][2] is reader and self._sooner is not None and not self._sooner.done():
            self._sooner.set_result(None)

    def removed(self) -> None:
        """Count a closed reader; its entry is removed when it is due."""
        self._readers -= 1
        if self._readers == 0 and self._task is not None:
            self._task.cancel()
            self._task = None
            self._due.clear()

    def _push(self, reader: Reader, at: Instant) -> None:
        heapq.heappush(self._due, (at, next(self._order), reader))

    async def _run(self) -> None:
        while True:
            now = self._clock.now()
            self._look(now)
            self._sooner = asyncio.get_running_loop().create_future()
            try:
                wait = (self._due[0][0] - now) / MICROSECONDS if self._due else None
                if wait is None:
                    await self._sooner
                else:
                    async with self._clock.timeout(wait, HEARTBEAT_TAG):
                        await self._sooner
            except TimeoutError:
                pass  # the earliest reader is due

    def _look(self, now: Instant) -> None:
        """Wake the readers that are due or will be soon, and schedule each again."""
        due = self._due
        while due and (due[0][0] <= now + EARLY or due[0][2].is_closed):
            _, _, reader = heapq.heappop(due)
            if not reader.is_closed:
                self._push(reader, reader.pulse(now))
