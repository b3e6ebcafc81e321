"""The log in pages, with a bounded wait, for callers that cannot stream."""

from chatd_server.domain.ids import MICROSECONDS, OwnerId
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import EventPage, Store
from chatd_server.ports.streams import Streams
from chatd_server.service.ids import chat_id_of

WAIT_POLL_SECONDS = 1.0
"""How often a waiting caller reads the log: hints between processes may be lost."""


class Log:
    """Reads logs. Arguments were checked; every method refuses other owners."""

    def __init__(self, store: Store, streams: Streams, clock: Clock) -> None:
        self._store = store
        self._streams = streams
        self._clock = clock
        self._is_draining = False

    def drain(self) -> None:
        """Let waiting callers return with what there is, the next time that they read."""
        self._is_draining = True

    async def page(
        self, owner_id: OwnerId, chat_id: str, *, after: int, limit: int, wait_seconds: float
    ) -> EventPage:
        """Return events after a sequence; wait for the first one when there is none yet.

        Raises ChatNotFound, CursorExpired, CursorAhead.
        """
        known = (await self._store.load(chat_id_of(chat_id), owner_id)).id
        deadline = self._clock.now() + int(wait_seconds * MICROSECONDS)
        with self._streams.watch(known) as head:
            while True:
                page = await self._store.events(
                    known, after=after, limit=limit, bytes_max=PAGE_BYTES_MAX
                )
                left = (deadline - self._clock.now()) / MICROSECONDS
                if page.events or left <= 0 or self._is_draining:
                    return page
                await head.moved(min(left, WAIT_POLL_SECONDS))
