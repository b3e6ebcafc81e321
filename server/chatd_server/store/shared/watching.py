"""Rows of events that watchers of many chats are sent. Both databases select the same columns."""

from collections.abc import Sequence

import msgspec

from chatd_server.domain.event import LoggedEvent
from chatd_server.ports.watch import Place, WatchedEvent, WatchPage
from chatd_server.store.shared.codec import decode_event
from chatd_server.store.shared.columns import Row

PLACE = "e.txid, e.chat, e.sequence"
COLUMNS = f"{PLACE}, e.at, e.content_version, e.payload, c.uuid, c.root_id, c.labels"

NUMBER_MAX = 2**63 - 1

_label: msgspec.json.Decoder[tuple[str, str]] = msgspec.json.Decoder(tuple[str, str])


def after_commit(txid: int) -> Place:
    """Return the place after everything that a commit and all before it have written."""
    return Place(txid, NUMBER_MAX, NUMBER_MAX)


def page_of(
    rows: Sequence[Row], limit: int, newest_txid: int, *, held_back: bool = False
) -> WatchPage:
    """Return a page from at most `limit + 1` rows. `newest_txid`: no event of this commit or of an
    earlier one will be added.
    """
    events = [watched_event(row) for row in rows[:limit]]
    if len(rows) > limit:
        return WatchPage(events, events[-1].place, more=True)
    return WatchPage(events, after_commit(newest_txid), more=False, held_back=held_back)


def watched_event(row: Row) -> WatchedEvent:
    """Return an event from a row of COLUMNS."""
    txid, chat, sequence, at, version, payload, chat_id, root_id, labels = row
    return WatchedEvent(
        Place(txid, chat, sequence),
        chat_id,
        root_id,
        frozenset(_label.decode(it[:-1]) for it in labels.split(b"\x1e")[1:]),
        LoggedEvent(sequence, at, decode_event(version, payload)),
    )
