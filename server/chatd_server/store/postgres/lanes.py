"""One write at a time for each chat of this process, so that its commits are told in order.

Commits of one chat on two connections could be answered in the wrong order. Each process has its
own listeners, so no order between processes is needed.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from chatd_server.domain.ids import ChatId

_Turn: TypeAlias = asyncio.Future[None]


class Lanes:
    """The chats that are being written, and the writes that wait, first come first served."""

    def __init__(self) -> None:
        #: The chats that are being written, each with the writes that wait; None: no write waits.
        self._busy: dict[ChatId, deque[_Turn] | None] = {}

    def enter(self, chat_id: ChatId) -> _Turn | None:
        """Enter a lane, and `leave` it afterwards. If it is not free, return what to wait for."""
        if chat_id not in self._busy:
            self._busy[chat_id] = None
            return None
        waiting = self._busy[chat_id]
        if waiting is None:
            waiting = self._busy[chat_id] = deque()
        turn: _Turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        return turn

    def leave(self, chat_id: ChatId) -> None:
        """Let the next one write."""
        waiting = self._busy[chat_id]
        if waiting:
            waiting.popleft().set_result(None)
        else:
            del self._busy[chat_id]

    def is_busy(self, chat_id: ChatId) -> bool:
        """Say whether the chat is being written."""
        return chat_id in self._busy

    @contextmanager
    def held(self, chat_ids: Collection[ChatId]) -> Iterator[None]:
        """Hold lanes that are free."""
        for chat_id in chat_ids:
            assert self.enter(chat_id) is None, "the lane is not free"
        try:
            yield
        finally:
            for chat_id in chat_ids:
                self.leave(chat_id)
