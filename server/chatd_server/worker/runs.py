"""The chats that this worker runs now. Belongs to the event loop's thread."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from chatd_server.agent.turn.stop import Stop
from chatd_server.domain.ids import ChatId, Instant


@dataclass(eq=False)
class Run:
    """One worker's hold on one chat, from acquire to release."""

    chat_id: ChatId
    epoch: int
    stop: Stop
    task: asyncio.Task[None]
    #: By the local clock, counted from before the beat: when it has passed, others may hold it.
    leased_until: Instant
    #: The newest revision that a commit of this process told of: hints up to it say nothing new.
    revision: int


class Runs:
    """All runs, by chat. A chat whose run has just ended may already have the next one."""

    def __init__(self) -> None:
        self._runs: dict[ChatId, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs.values()))

    def add(self, run: Run) -> None:
        """Take a run; it is forgotten when its task ends."""
        self._runs[run.chat_id] = run
        self._tasks.add(run.task)
        run.task.add_done_callback(lambda _: self._remove(run))

    def get(self, chat_id: ChatId) -> Run | None:
        """Return the run of a chat."""
        return self._runs.get(chat_id)

    async def ended(self) -> None:
        """Wait until no run is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _remove(self, run: Run) -> None:
        self._tasks.discard(run.task)
        if self._runs.get(run.chat_id) is run:
            del self._runs[run.chat_id]
