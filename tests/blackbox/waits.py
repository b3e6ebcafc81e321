"""The only clock of this folder, and the bounds that its waits share.

The servers under test run in processes of their own, so nobody can hold their clock. No rule here
says how fast anything is: a bound only tells "late on a busy machine" from "never".
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

HEARTBEAT_SECONDS = 1
"""What streams ask for: the shortest pause that the contract allows."""

OWED_SECONDS = 25.0
"""After so long, something that a stream owes counts as never sent."""

START_SECONDS = 60.0
"""A server that has not said where it listens by then will not say it."""

RECONNECT_SECONDS = 0.1
"""Pause before a stream that was cut, or a call that was not answered, is tried again."""

T = TypeVar("T")


def now() -> float:
    """Return a time that never goes back."""
    return time.monotonic()


async def pause(seconds: float) -> None:
    """Do nothing for so long."""
    await asyncio.sleep(seconds)


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """Await something; raise TimeoutError when it takes longer."""
    return await asyncio.wait_for(awaitable, seconds)


async def ended(task: asyncio.Task[None], seconds: float) -> bool:
    """Wait so long for a task, and say whether it has ended. It goes on if not."""
    done, _ = await asyncio.wait([task], timeout=seconds)
    return bool(done)
