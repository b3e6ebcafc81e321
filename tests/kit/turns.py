"""Turns of the event loop that others have while something goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Counts; `begin` again after what is not meant."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        """Count from now on."""
        self.count = 0


@asynccontextmanager
async def counting_turns() -> AsyncIterator[Turns]:
    """Count the turns that a task has which wants every one of them."""
    turns = Turns()

    async def other() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)  # noqa: TID251  a turn of the loop

    task = asyncio.create_task(other())
    await asyncio.sleep(0)  # noqa: TID251  let it begin
    turns.begin()
    try:
        yield turns
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
