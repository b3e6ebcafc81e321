"""All waits of this package."""

import asyncio
import random
import time


class Clock:
    """The time of one client's calls. Tests replace it."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await pause(seconds)


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


def backoff_seconds(failures: int, *, first: float = 0.1, most: float = 5.0) -> float:
    """Return how long to wait after this many failures in a row: doubling, with jitter.

    The jitter spreads the clients of a restarted server.
    """
    ladder = min(most, first * 2.0 ** min(failures - 1, 16))
    return ladder * random.uniform(0.5, 1.0)  # noqa: S311  spread, not a secret
