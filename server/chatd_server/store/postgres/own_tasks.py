"""Writes that run to their end, also when the caller is cancelled while it waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from chatd_server.domain.refusal import LeaseLost, Refused, Unavailable

T = TypeVar("T")


class OwnTasks:
    """Runs each write in a task of the store's own: `asyncio.shield`, for half its price."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, write: Coroutine[Any, Any, T]) -> T:
        """Return the result of a write; raises its errors."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._running.add(loop.create_task(self._run(write, done)))
        return await done

    async def wait(self) -> None:
        """Wait until all writes that have begun have ended."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self, write: Coroutine[Any, Any, T], done: "asyncio.Future[T]") -> None:
        try:
            result = await write
        except Exception as error:
            if not done.cancelled():
                done.set_exception(error)
            elif not isinstance(error, Refused | Unavailable | LeaseLost):
                raise
        else:
            if not done.cancelled():
                done.set_result(result)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._running.discard(task)
