"""The log in pages, with a bounded wait: the twin of Subscribe for callers that cannot stream."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import MICROSECONDS, ChatId, OwnerId
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.ports import Clock, EventPage, Store, Wake
from chatd_server.service.authority import chat_id_of

WAIT_POLL_SECONDS = 1.0
"""A wake hint may be lost; a waiting caller reads the log at least this often."""


class Events:
    """Reads the log of a chat. One listener on the wake port serves all who wait."""

    def __init__(self, store: Store, wake: Wake, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[ChatId, set[asyncio.Event]] = {}
        self._draining = False
        self._stop_listening = wake.listen(self._on_hint)

    async def page(
        self, owner_id: OwnerId, chat_id: str, *, after: int, limit: int, wait_seconds: float
    ) -> EventPage:
        """Return events behind a sequence; wait for the first one when there is none yet.

        Raises ChatNotFound, CursorExpired, CursorAhead.
        """
        known = (await self._store.load(chat_id_of(chat_id), owner_id)).id
        deadline = self._clock.now() + int(wait_seconds * MICROSECONDS)
        with self._hints(known) as hint:
            while True:
                hint.clear()
                page = await self._store.events(
                    known, after=after, limit=limit, bytes_max=PAGE_BYTES_MAX
                )
                left = (deadline - self._clock.now()) / MICROSECONDS
                if page.events or left <= 0 or self._draining:
                    return page
                await self._wait(hint, min(left, WAIT_POLL_SECONDS))

    def drain(self) -> None:
        """Let everybody who waits go home with what there is."""
        self._draining = True
        for hints in self._waiting.values():
            for hint in hints:
                hint.set()

    def close(self) -> None:
        """Stop to listen."""
        self._stop_listening()

    async def _wait(self, hint: asyncio.Event, seconds: float) -> None:
        try:
            async with self._clock.timeout(seconds, "events.wait"):
                await hint.wait()
        except TimeoutError:
            pass  # the log is read again: the hint may have been lost

    @contextmanager
    def _hints(self, chat_id: ChatId) -> Iterator[asyncio.Event]:
        hint = asyncio.Event()
        waiting = self._waiting.setdefault(chat_id, set())
        waiting.add(hint)
        try:
            yield hint
        finally:
            waiting.discard(hint)
            if not waiting and self._waiting.get(chat_id) is waiting:
                del self._waiting[chat_id]

    def _on_hint(self, chat_id: ChatId, _revision: int, _status: Status) -> None:
        for hint in self._waiting.get(chat_id, ()):
            hint.set()
