"""The chats that this worker runs now. Use it only on the event loop's thread."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from chatd_server.agent.turn.stop import Stop
from chatd_server.domain.ids import ChatId, Instant


@dataclass(eq=False)
class Run:
    """One worker's lease on one chat, from acquisition to release."""

    chat_id: ChatId
    epoch: int
    stop: Stop
    task: asyncio.Task[None]
    #: Local time, counted from before the heartbeat; after it, others may hold the chat.
    leased_until: Instant
    #: The newest revision committed by this process: hints up to it are not news.
    revision: int


class Runs:
    """All runs, by chat. A chat may have a new run while its last one is still ending."""

    def __init__(self) -> None:
        self._runs: dict[ChatId, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs.values()))

    def add(self, run: Run) -> None:
        """Add a run; it is removed when its task ends."""
        self._runs[run.chat_id] = run
        self._tasks.add(run.task)
        run.task.add_done_callback(lambda _: self._remove(run))

    def get(self, chat_id: ChatId) -> Run | None:
        return self._runs.get(chat_id)

    async def ended(self) -> None:
        """Wait until all runs have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _remove(self, run: Run) -> None:
        self._tasks.discard(run.task)
        if self._runs.get(run.chat_id) is run:
            del self._runs[run.chat_id]
