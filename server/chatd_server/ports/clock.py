"""Time."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chatd_server.domain.ids import Instant


class Clock(Protocol):
    """Time as an argument. All time goes through it."""

    def now(self) -> Instant:
        """Return microseconds since the Unix epoch, UTC."""

    async def sleep(self, seconds: float, tag: str) -> None:
        """Let time pass; `tag` names the wait."""

    def timeout(self, seconds: float, tag: str) -> AbstractAsyncContextManager[object]:
        """Return a context that raises TimeoutError once the time has passed."""
