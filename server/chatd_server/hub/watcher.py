"""One watcher of many chats: a place in the order of all events."""

from collections.abc import Iterator

from chatd_server.domain.ids import MICROSECONDS, Instant, OwnerId
from chatd_server.domain.live import StreamEndReason
from chatd_server.hub.feed import PAGE_EVENTS, Feed
from chatd_server.ports.clock import Clock
from chatd_server.ports.watch import (
    Place,
    Watch,
    Watched,
    WatchedEvent,
    WatchSignal,
    WatchStore,
)

NOTHING: Iterator[WatchedEvent] = iter(())


class FeedWatcher:
    """Implements `ports.Watcher`. It has no queue: it takes events from the feed, and reads for
    itself while it is further behind than the feed.
    """

    def __init__(
        self,
        owner_id: OwnerId,
        watch: Watch,
        feed: Feed,
        store: WatchStore,
        clock: Clock,
        *,
        heartbeat_seconds: float,
        ends_at: Instant,
    ) -> None:
        self._owner_id = owner_id
        self._watch = watch
        self._feed = feed
        self._store = store
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        self._ends_at = ends_at
        self._place: Place | None = None
        #: When this is reached, everything from before the start was sent. None: it was said.
        self._start: Place | None = None
        #: Events that come next.
        self._next = NOTHING
        #: The feed's changes when this last looked.
        self._seen = 0
        #: Set from outside: why the stream ends.
        self.end: StreamEndReason | None = None

    @property
    def place(self) -> Place:
        assert self._place is not None, "nothing was sent yet"
        return self._place

    async def next(self) -> Watched:
        if self._place is None:
            self._start = await self._store.watch_head()
            resumed = self._watch.resume_from
            self._place = self._start if resumed is None else resumed.place
        while True:
            for event in self._next:
                self._place = event.place
                if self._wants(event):
                    return event
            if self.end is not None:
                return self.end
            if self._clock.now() >= self._ends_at:
                return StreamEndReason.MAX_DURATION
            if await self._look():
                continue
            if self._start is not None and self._place >= self._start:
                self._start = None
                return WatchSignal.CAUGHT_UP
            if not await self._wait():
                return WatchSignal.HEARTBEAT

    def _wants(self, event: WatchedEvent) -> bool:
        root_id = self._watch.root_id
        return (root_id is None or event.root_id == root_id) and (
            event.labels.issuperset(self._watch.labels)
        )

    async def _look(self) -> bool:
        """Find what comes next; return whether it is worth looking again."""
        place, feed = self.place, self._feed
        self._seen = feed.changes
        if feed.kept_from is not None and place >= feed.kept_from:
            found = feed.after(place)
            self._next = iter(found)
            if not found:
                self._place = max(place, feed.reached)
            return bool(found)
        page = await self._store.watched(self._owner_id, after=place, limit=PAGE_EVENTS)
        self._next = iter(page.events)
        if not page.events:
            self._place = page.reached
        return bool(page.events)

    async def _wait(self) -> bool:
        """Wait for a change; return whether one came before the next heartbeat is due."""
        if self._feed.changes != self._seen:
            return True  # while this read for itself
        left = (self._ends_at - self._clock.now()) / MICROSECONDS
        changed = self._feed.waiting()
        try:
            async with self._clock.timeout(min(self._heartbeat_seconds, left), "feed.heartbeat"):
                await changed
        except TimeoutError:
            return self._clock.now() >= self._ends_at
        return True
