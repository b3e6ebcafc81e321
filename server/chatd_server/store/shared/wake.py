"""Hints that a chat changed, inside this process.

A hint may be lost, doubled or reordered, so it carries no state: a listener that gets one reads
the database, and one that misses it finds the change at its next poll.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId

Callback: TypeAlias = Callable[[ChatId, int, Status], None]
_C = TypeVar("_C")


class LocalWake:
    """`ports.Wake` for the SQLite store; the PostgreSQL store delivers to its own process by it."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callback] = {}
        self._gap_callbacks: dict[object, Callable[[], None]] = {}

    def hint(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Call back at once. Callbacks must not raise or block."""
        for callback in tuple(self._callbacks.values()):
            callback(chat_id, revision, status)

    def listen(self, callback: Callback) -> Callable[[], None]:
        """Call back for each hint; return how to stop it."""
        return _register(self._callbacks, callback)

    def listen_gaps(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when hints may have been missed, so poll now; return how to stop it."""
        return _register(self._gap_callbacks, callback)

    async def failed(self) -> None:
        """Wait for ever: it has no connection that could fail."""
        await asyncio.get_running_loop().create_future()

    def tell_gap(self) -> None:
        """Say that hints may have been missed."""
        for callback in tuple(self._gap_callbacks.values()):
            callback()


def _register(callbacks: dict[object, _C], callback: _C) -> Callable[[], None]:
    key = object()
    callbacks[key] = callback

    def stop() -> None:
        callbacks.pop(key, None)

    return stop
