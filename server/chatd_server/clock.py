"""The real clock: the only file that asks the machine for the time or lets time pass."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager

from chatd_server.domain.ids import Instant


class RealClock:
    """The machine's time. Tests use a clock of their own that implements the same port."""

    def now(self) -> Instant:
        """Return microseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1000

    async def sleep(self, seconds: float, tag: str) -> None:  # noqa: ARG002  the tag is for tests
        """Let time pass. `tag` names the wait, so that a test can wait for it."""
        await asyncio.sleep(seconds)

    def timeout(
        self,
        seconds: float,
        tag: str,  # noqa: ARG002  the tag is for tests
    ) -> AbstractAsyncContextManager[object]:
        """Return a context that is cut with TimeoutError once the time has passed."""
        return asyncio.timeout(seconds)
