"""Silence on open streams: one task looks at all of them, a few times within the limit.

The usual timer, reset for each chunk, costs a stream 3 % of its CPU. Here a stream counts its
reads and nothing else, and whether one of them takes too long is the task's business.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from chatd_server.ports.clock import Clock

LOOKS = 4
"""Looks within the limit: a silence is found at most a fourth of the limit too late."""
TAG = "transport.silence"


class Watched(Protocol):
    """A stream with one reader."""

    reads: int
    """Reads that began and reads that ended, together: odd while the reader waits."""

    def time_out(self) -> None:
        """Fail the read that waits."""


Stream = TypeVar("Stream", bound=Watched)


class SilenceWatch(Generic[Stream]):
    """Times out the reads that wait longer than the limit, in seconds.

    Only a read that waits is counted, so a stream whose reader is slow has all the time it needs.
    While no stream is open there is no task, and nothing sleeps.
    """

    def __init__(self, clock: Clock, limit_seconds: float) -> None:
        self._clock = clock
        self._pause = limit_seconds / LOOKS
        #: What the last look found: the count, and how many looks in a row found it waiting there.
        self._found: dict[Stream, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, stream: Stream) -> Iterator[None]:
        """Watch a stream until the context ends."""
        self._found[stream] = (stream.reads, 0)
        if self._task is None:
            self._task = asyncio.create_task(self._look_on(), name=TAG)
        try:
            yield
        finally:
            self._found.pop(stream, None)  # `stop` may have come first
            if not self._found:
                self.stop()

    def stop(self) -> Collection[Stream]:
        """Watch no longer; return the streams that are still open."""
        left, self._found = self._found, {}
        if self._task is not None:
            self._task.cancel()
            self._task = None
        return left.keys()

    async def _look_on(self) -> None:
        while True:
            await self._clock.sleep(self._pause, TAG)
            for stream, (reads, looks) in self._found.items():
                still_waits = stream.reads == reads and reads % 2 == 1
                found = self._found[stream] = (stream.reads, looks + 1 if still_waits else 0)
                if found[1] == LOOKS:
                    stream.time_out()
