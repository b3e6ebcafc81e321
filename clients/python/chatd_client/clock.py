"""The client's waits. Everything that lets time pass in this package stands here."""

import asyncio
import random


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


def backoff_seconds(failures: int, *, first: float = 0.1, most: float = 5.0) -> float:
    """Return how long to wait after this many failures in a row: doubling, with jitter.

    The jitter keeps the clients of a restarted server from coming back all at once.
    """
    ladder = min(most, first * 2.0 ** min(failures - 1, 16))
    return ladder * random.uniform(0.5, 1.0)  # noqa: S311  spread, not a secret
