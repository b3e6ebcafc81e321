"""One write at a time for each chat of this process, so that its commits are told in order.

Commits of one chat on two connections could be answered in the wrong order. Other processes tell
their own listeners, so nothing has to be ordered between processes.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from chatd_server.domain.ids import ChatId

End: TypeAlias = asyncio.Future[None]


class Lanes:
    """Who writes which chat now, and who waits for it, first come first served."""

    def __init__(self) -> None:
        #: The end of the last write that began, or waits to begin.
        self._last: dict[ChatId, End] = {}

    def enter(self, chat_id: ChatId) -> tuple[End | None, End]:
        """Queue up. Return what to wait for, if anything, and what to `leave` with."""
        end: End = asyncio.get_running_loop().create_future()
        before = self._last.get(chat_id)
        self._last[chat_id] = end
        return before, end

    def leave(self, chat_id: ChatId, end: End) -> None:
        """Let the next one write."""
        end.set_result(None)
        if self._last.get(chat_id) is end:
            del self._last[chat_id]

    def is_busy(self, chat_id: ChatId) -> bool:
        """Say whether somebody writes the chat."""
        return chat_id in self._last

    @contextmanager
    def held(self, chat_ids: Iterable[ChatId]) -> Iterator[None]:
        """Hold lanes that are not busy."""
        ends = [(chat_id, self.enter(chat_id)[1]) for chat_id in chat_ids]
        try:
            yield
        finally:
            for chat_id, end in ends:
                self.leave(chat_id, end)
