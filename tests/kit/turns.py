"""Counts the turns of the event loop that other tasks get meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A counter; call `begin` to reset it."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        """Count from now on."""
        self.count = 0


@asynccontextmanager
async def counting_turns() -> AsyncIterator[Turns]:
    """Count the turns of a task that is always ready to run."""
    turns = Turns()

    async def other() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)  # noqa: TID251  a turn of the loop

    task = asyncio.create_task(other())
    await asyncio.sleep(0)  # noqa: TID251  let the task start
    turns.begin()
    try:
        yield turns
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
