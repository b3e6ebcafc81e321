"""The events of all chats of an owner, in an order that a reader can continue from."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import ChatId, OwnerId


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
