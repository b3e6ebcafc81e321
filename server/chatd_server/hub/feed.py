"""The newest watched events of one owner, read once for all watchers of this process."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from chatd_server.domain.ids import OwnerId
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.ports.clock import Clock
from chatd_server.ports.watch import Place, WatchedEvent, WatchStore

PAGE_EVENTS = 256
"""Events per read."""
KEPT_EVENTS_MAX = 1_000
"""Events kept for watchers that are slow; one that is further behind reads for itself."""
HELD_BACK_SECONDS = 0.05
"""How soon to read again when an open transaction holds events back."""
RETRY_SECONDS = 1.0
"""How soon to read again when the database cannot be reached."""


class Feed:
    """Reads what is new whenever it is stirred, until its task is cancelled."""

    def __init__(
        self, owner_id: OwnerId, store: WatchStore, clock: Clock, poll_seconds: float | None
    ) -> None:
        """`poll_seconds`: how often to read without a reason, because a hint may be lost; None
        where none can be.
        """
        self._owner_id = owner_id
        self._store = store
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._stirred = asyncio.Event()
        self._events: list[WatchedEvent] = []
        #: All events after `kept_from`, up to `reached`, are kept. None before the first read.
        self.kept_from: Place | None = None
        self.reached = Place(0, 0, 0)
        #: Counts the reasons to look again.
        self.changes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def after(self, place: Place) -> Sequence[WatchedEvent]:
        """Return the events after a place; call it only for one that is not before `kept_from`."""
        return self._events[bisect_right(self._events, place, key=lambda it: it.place) :]

    def stir(self) -> None:
        """Read soon: there is something new, or may be."""
        self._stirred.set()

    def waiting(self) -> "asyncio.Future[None]":
        """Return a future that the next change or `wake` completes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def wake(self) -> None:
        """Let all watchers look again."""
        self.changes += 1
        for future in tuple(self._waiting):
            if not future.done():
                future.set_result(None)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self._read_on()
            except DatabaseUnavailable:
                # The store has noted it; nothing is lost, because the place has not moved.
                await self._clock.sleep(RETRY_SECONDS, "feed.retry")

    async def _read_on(self) -> None:
        if self.kept_from is None:
            self.kept_from = self.reached = await self._store.watch_head()
            self.wake()
            self.stir()  # for commits that an open transaction holds back now
        while True:
            await self._stir_or_poll()
            self._stirred.clear()
            while (pause := await self._read()) is not None:
                await self._clock.sleep(pause, "feed.held_back")

    async def _read(self) -> float | None:
        """Read a page; return how long to wait before the next one, None if all is read."""
        page = await self._store.watched(self._owner_id, after=self.reached, limit=PAGE_EVENTS)
        self._events += page.events
        self.reached = page.reached
        surplus = len(self._events) - KEPT_EVENTS_MAX
        if surplus > 0:
            self.kept_from = self._events[surplus - 1].place
            del self._events[:surplus]
        if page.events:
            self.wake()
        if page.more:
            return 0
        return HELD_BACK_SECONDS if page.held_back else None

    async def _stir_or_poll(self) -> None:
        if self._poll_seconds is None:
            await self._stirred.wait()
            return
        try:
            async with self._clock.timeout(self._poll_seconds, "feed.poll"):
                await self._stirred.wait()
        except TimeoutError:
            return
