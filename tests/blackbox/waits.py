"""The only clock of this folder, and the limits of its waits.

The servers under test run in their own processes, so no test can control their clock. No rule here
is about speed: a limit only separates "late on a busy machine" from "never".
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

HEARTBEAT_SECONDS = 1
"""The heartbeat interval of streams: the shortest that the contract allows."""

OWED_SECONDS = 25.0
"""After this time, something that a stream owes counts as never sent."""

START_SECONDS = 60.0
"""A server that has not printed its address by then never will."""

RECONNECT_SECONDS = 0.1
"""Pause before a cut stream or an unanswered call is tried again."""

T = TypeVar("T")


def now() -> float:
    """Return a monotonic time."""
    return time.monotonic()


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """Await something; raise TimeoutError if it takes longer."""
    return await asyncio.wait_for(awaitable, seconds)


async def ended(task: asyncio.Task[None], seconds: float) -> bool:
    """Wait for a task, and return whether it has ended. It is not cancelled."""
    done, _ = await asyncio.wait([task], timeout=seconds)
    return bool(done)
