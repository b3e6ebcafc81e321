"""The events of all chats of an owner, in an order that a reader can continue from."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import ChatId, Instant, OwnerId
from chatd_server.domain.live import StreamEndReason


class Place(NamedTuple):
    """A place in the order of all events: by commit, then by chat, then by sequence.

    The events of one chat have the order of its log. The numbers mean nothing outside the store.
    """

    txid: int
    chat: int
    sequence: int


class WatchedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of one of the kinds in `domain.event.WATCHED`, and the chat that it is of."""

    place: Place
    chat_id: ChatId
    root_id: ChatId
    #: Of the chat when the event was read.
    labels: frozenset[tuple[str, str]]
    logged: LoggedEvent


class WatchPage(msgspec.Struct, frozen=True):
    """Some watched events in order, and where to continue."""

    events: Sequence[WatchedEvent]
    #: No event before this place will ever be added.
    reached: Place
    #: There is more to read now.
    more: bool
    #: A transaction that has not ended holds back events that are committed: read again soon.
    held_back: bool = False


class WatchStore(Protocol):
    """What watchers of many chats read."""

    async def watch_head(self) -> Place:
        """Return a place before which no event will ever be added: all newer ones come after it."""

    async def watched(self, owner_id: OwnerId, *, after: Place, limit: int) -> WatchPage:
        """Return at most `limit` watched events of an owner's chats after a place."""


class WatchFrom(NamedTuple):
    """Where a watch continues, and when the place was current."""

    place: Place
    at: Instant


class Watch(msgspec.Struct, frozen=True):
    """What a watcher asked for."""

    #: None: from now on.
    resume_from: WatchFrom | None = None
    #: Only the family of this chat; None: all chats of the owner.
    root_id: ChatId | None = None
    #: Only chats with all of these labels.
    labels: frozenset[tuple[str, str]] = frozenset()
    #: Pause between heartbeats of a stream with nothing else to send; None: the server's.
    heartbeat_seconds: float | None = None


class WatchSignal(Enum):
    """What a watcher is sent besides events."""

    #: Everything from before the start of the stream was sent.
    CAUGHT_UP = "caught_up"
    #: The stream is alive.
    HEARTBEAT = "heartbeat"


Watched: TypeAlias = WatchedEvent | WatchSignal | StreamEndReason


class Watcher(Protocol):
    """What one watcher is sent, in order."""

    @property
    def place(self) -> Place:
        """The place up to which everything was sent: where a reconnect continues."""

    async def next(self) -> Watched:
        """Wait for the next thing to send; a StreamEndReason is the last. Raises
        DatabaseUnavailable.
        """


class Watches(Protocol):
    """Where watchers follow the chats of an owner."""

    def watch(self, owner_id: OwnerId, watch: Watch) -> AbstractContextManager[Watcher]:
        """Attach a watcher; raises TooManyStreams, Draining, CursorExpired."""
