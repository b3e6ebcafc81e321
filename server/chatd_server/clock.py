"""The real clock: the only file that reads the system time or sleeps."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager

from chatd_server.domain.ids import Instant


class RealClock:
    """The system clock. Tests use their own clock, which implements the same port."""

    def now(self) -> Instant:
        """Return microseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1000

    async def sleep(self, seconds: float, tag: str) -> None:  # noqa: ARG002  the tag is for tests
        """Sleep. `tag` names the wait, so that a test can wait for it."""
        await asyncio.sleep(seconds)

    def timeout(
        self,
        seconds: float,
        tag: str,  # noqa: ARG002  the tag is for tests
    ) -> AbstractAsyncContextManager[object]:
        """Return a context that raises TimeoutError when the time has passed."""
        return asyncio.timeout(seconds)
