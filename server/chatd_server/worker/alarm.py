"""Waiting for something to happen, or for time to pass, whichever is first."""

import asyncio

from chatd_server.ports.clock import Clock


class Alarm:
    """A set-and-clear flag with one waiter. Ringing it before the wait is not lost."""

    def __init__(self, clock: Clock, tag: str) -> None:
        self._clock = clock
        self._tag = tag
        self._event = asyncio.Event()

    def ring(self) -> None:
        """End the wait, or the next one."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return when it rang, or after the time."""
        try:
            async with self._clock.timeout(seconds, self._tag):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()

    async def wait_for_ring(self) -> None:
        """Return when it rang, however long that takes."""
        await self._event.wait()
        self._event.clear()
