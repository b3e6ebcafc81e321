"""The client's waits. Everything that lets time pass in this package stands here."""

import asyncio
import random
import time


class Clock:
    """The time of one client's calls. A test puts another one in its place."""

    def now(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await pause(seconds)


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


def backoff_seconds(failures: int, *, first: float = 0.1, most: float = 5.0) -> float:
    """Return how long to wait after this many failures in a row: doubling, with jitter.

    The jitter keeps the clients of a restarted server from coming back all at once.
    """
    ladder = min(most, first * 2.0 ** min(failures - 1, 16))
    return ladder * random.uniform(0.5, 1.0)  # noqa: S311  spread, not a secret
