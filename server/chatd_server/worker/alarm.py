"""Waiting for an event or a timeout, whichever is first."""

import asyncio

from chatd_server.ports.clock import Clock


class Alarm:
    """A flag with one waiter, cleared by the wait. A ring before the wait is not lost."""

    def __init__(self, clock: Clock, tag: str) -> None:
        self._clock = clock
        self._tag = tag
        self._event = asyncio.Event()

    def ring(self) -> None:
        """End the current wait, or the next one."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return after a ring, or when the time has passed."""
        try:
            async with self._clock.timeout(seconds, self._tag):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()

    async def wait_for_ring(self) -> None:
        """Return after a ring."""
        await self._event.wait()
        self._event.clear()
