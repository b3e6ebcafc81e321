"""The watchers of this process, and a feed for each owner that has some."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from chatd_server.domain.chat import Status
from chatd_server.domain.event import WATCHED
from chatd_server.domain.ids import MICROSECONDS, ChatId, OwnerId
from chatd_server.domain.limits import WATCHERS_PER_OWNER_MAX
from chatd_server.domain.live import StreamEndReason
from chatd_server.domain.refusal import (
    ChatNotFound,
    CursorExpired,
    DatabaseUnavailable,
    Draining,
    TooManyStreams,
)
from chatd_server.hub.feed import Feed
from chatd_server.hub.settings import HubSettings
from chatd_server.hub.watcher import FeedWatcher
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, Store
from chatd_server.ports.watch import Watch

OWNERS_KEPT_MAX = 50_000
"""Chats whose owner is remembered while somebody watches, about 10 MB: it never changes."""
POLL_SECONDS = 5.0
"""How often a feed reads where hints between processes may be lost."""


class Feeds:
    """Implements `ports.Watches` and `ports.CommitListener`."""

    def __init__(self, store: Store, clock: Clock, settings: HubSettings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._feeds: dict[OwnerId, Feed] = {}
        self._watchers: dict[OwnerId, set[FeedWatcher]] = {}
        self._reading: dict[OwnerId, asyncio.Task[None]] = {}
        self._owners: dict[ChatId, OwnerId] = {}
        #: The commit of this process that was just told: its hint says nothing new.
        self._told: tuple[ChatId, int] | None = None
        self._looking: set[asyncio.Task[None]] = set()
        self._is_draining = False

    # --- what happens --------------------------------------------------------------------------

    def committed(self, applied: Applied) -> None:
        """Process a commit of this process."""
        if not self._feeds:
            return
        state = applied.state
        self._told = (state.id, state.revision)
        self._remember(state.id, state.owner_id)
        if any(isinstance(logged.event, WATCHED) for logged in applied.events):
            self._stir(state.owner_id)

    def hinted(self, chat_id: ChatId, revision: int, status: Status) -> None:  # noqa: ARG002  a hint carries no meaning; only the log does
        """Process a hint of another process that a chat changed."""
        if not self._feeds or self._told == (chat_id, revision):
            return
        owner_id = self._owners.get(chat_id)
        if owner_id is not None:
            self._stir(owner_id)
            return
        looking = asyncio.get_running_loop().create_task(self._find_owner(chat_id))
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)

    def hints_missed(self) -> None:
        """Hints may have been lost: every feed reads."""
        for feed in self._feeds.values():
            feed.stir()

    # --- watchers ------------------------------------------------------------------------------

    @contextmanager
    def watch(self, owner_id: OwnerId, watch: Watch) -> Iterator[FeedWatcher]:
        """Attach a watcher; raises TooManyStreams, Draining, CursorExpired."""
        self._admit(owner_id, watch)
        settings = self._settings
        watcher = FeedWatcher(
            owner_id,
            watch,
            self._feed(owner_id),
            self._store,
            self._clock,
            heartbeat_seconds=watch.heartbeat_seconds or settings.heartbeat_seconds,
            ends_at=self._clock.now() + settings.lifetime(),
        )
        watchers = self._watchers.setdefault(owner_id, set())
        watchers.add(watcher)
        try:
            yield watcher
        finally:
            watchers.discard(watcher)
            if not watchers:
                self._forget(owner_id)

    def drain(self) -> None:
        """End every stream with DRAINING, and refuse new ones."""
        self._is_draining = True
        for owner_id, watchers in self._watchers.items():
            for watcher in watchers:
                watcher.end = StreamEndReason.DRAINING
            self._feeds[owner_id].wake()

    # --- inside --------------------------------------------------------------------------------

    def _admit(self, owner_id: OwnerId, watch: Watch) -> None:
        if self._is_draining:
            raise Draining("the server is shutting down; watch again, it or another will answer")
        if len(self._watchers.get(owner_id, ())) >= WATCHERS_PER_OWNER_MAX:
            raise TooManyStreams(
                f"{WATCHERS_PER_OWNER_MAX} watches are open with this key; close some"
            )
        retention = self._settings.event_retention_seconds
        if watch.resume_from is None or not retention:
            return
        if watch.resume_from.at < self._clock.now() - round(retention * MICROSECONDS):
            raise CursorExpired(
                "the cursor is older than the events that are kept: list the chats, and watch "
                "without a cursor",
                0,
                0,
            )

    def _feed(self, owner_id: OwnerId) -> Feed:
        feed = self._feeds.get(owner_id)
        if feed is None:
            poll_seconds = POLL_SECONDS if self._settings.reads_at_heartbeat else None
            feed = Feed(owner_id, self._store, self._clock, poll_seconds)
            self._feeds[owner_id] = feed
            self._reading[owner_id] = asyncio.create_task(feed.run(), name="hub.feed")
        return feed

    def _forget(self, owner_id: OwnerId) -> None:
        """Stop the feed of an owner without watchers."""
        del self._feeds[owner_id], self._watchers[owner_id]
        self._reading.pop(owner_id).cancel()
        if not self._feeds:
            self._owners.clear()

    def _stir(self, owner_id: OwnerId) -> None:
        feed = self._feeds.get(owner_id)
        if feed is not None:
            feed.stir()

    def _remember(self, chat_id: ChatId, owner_id: OwnerId) -> None:
        if len(self._owners) >= OWNERS_KEPT_MAX:
            self._owners.clear()
        self._owners[chat_id] = owner_id

    async def _find_owner(self, chat_id: ChatId) -> None:
        """Find whose chat another process has changed."""
        try:
            state = await self._store.load(chat_id)
        except (ChatNotFound, DatabaseUnavailable):
            return  # the feeds poll
        self._remember(chat_id, state.owner_id)
        self._stir(state.owner_id)
