"""Reads. Each function runs in one read transaction."""

import sqlite3
from collections.abc import Sequence

from chatd_server.domain.chat import ChatState
from chatd_server.domain.ids import ChatId, Instant, MessageId, OwnerId, ToolCallId
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import ChatNotFound, MessageNotFound
from chatd_server.ports.keys import KeyRecord
from chatd_server.ports.store import Applied, ChatPage, EventPage, RequestKey
from chatd_server.ports.watch import Place, WatchPage
from chatd_server.store.shared import pages, watching
from chatd_server.store.shared.codec import decode_message, page_weight, request_key
from chatd_server.store.shared.columns import Row
from chatd_server.store.shared.open_calls import without_answered
from chatd_server.store.shared.ownership import readable
from chatd_server.store.shared.rows import ChatRow, event_of, event_weight, state_of
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.loading import read_answer, read_state


def answered(cursor: sqlite3.Cursor, request: RequestKey) -> Applied | None:
    """Return the stored answer of a request; None when it was not carried out."""
    found = cursor.execute(sql.FIND_COMMAND, (request_key(request.key),)).fetchone()
    return None if found is None else read_answer(cursor, found, request)


def load(cursor: sqlite3.Cursor, chat_id: ChatId, owner_id: OwnerId | None) -> ChatState:
    """Return the state, queue contents and journal included; raises ChatNotFound."""
    row = cursor.execute(sql.LOAD, (chat_id,)).fetchone()
    return read_state(cursor, readable(row, chat_id, owner_id))[1]


def events(
    cursor: sqlite3.Cursor, chat_id: ChatId, after: int, limit: int, bytes_max: int
) -> EventPage:
    """Return a page of the log: at least one event if there is one, and about `bytes_max`."""
    row_id, oldest, head = _heads(cursor, chat_id)
    pages.check_cursor(after, oldest, head)
    rows = cursor.execute(sql.EVENTS, {"chat": row_id, "after": after, "limit": limit})
    page, _ = pages.first_page(rows, event_weight, bytes_max)
    return EventPage(tuple(event_of(row) for row in page), oldest, head)


def watch_head(cursor: sqlite3.Cursor) -> Place:
    """Return the place after all events: commits come one after the other."""
    return watching.after_commit(_newest_txid(cursor))


def watched(cursor: sqlite3.Cursor, owner_id: OwnerId, after: Place, limit: int) -> WatchPage:
    wanted = {**after._asdict(), "owner_id": owner_id, "limit": limit + 1}
    rows = cursor.execute(sql.WATCHED, wanted).fetchall()
    return watching.page_of(rows, limit, max(_newest_txid(cursor), after.txid))


def _newest_txid(cursor: sqlite3.Cursor) -> int:
    newest: int | None = cursor.execute(sql.NEWEST_WATCHED).fetchone()[0]
    return newest or 0


def messages(
    cursor: sqlite3.Cursor, chat_id: ChatId, after_position: int, limit: int, bytes_max: int
) -> tuple[list[Message], bool]:
    row_id = _heads(cursor, chat_id)[0]
    wanted = {"chat": row_id, "after": after_position, "limit": limit + 1}
    return _page(cursor.execute(sql.MESSAGES, wanted), bytes_max, limit)


def messages_as_of(
    cursor: sqlite3.Cursor, state: ChatState, after_position: int, bytes_max: int
) -> tuple[list[Message], bool]:
    """Return a page of the messages that stood at the revision of a state.

    Messages are immutable and their removal has a revision, so pages that are read one after
    another show one moment.
    """
    return _page(_as_of(cursor, state, after_position), bytes_max)


def contexts(cursor: sqlite3.Cursor, states: Sequence[ChatState]) -> list[tuple[Message, ...]]:
    """Return the messages that each model's context begins with, as of the states."""
    return [
        tuple(decode_message(*row) for row in _as_of(cursor, it, it.boundary_position - 1))
        for it in states
    ]


def _as_of(cursor: sqlite3.Cursor, state: ChatState, after_position: int) -> sqlite3.Cursor:
    wanted = {
        "chat": _heads(cursor, state.id)[0],
        "after": after_position,
        "before": state.next_position,
        "revision": state.revision,
    }
    return cursor.execute(sql.MESSAGES_AS_OF, wanted)


def message(cursor: sqlite3.Cursor, chat_id: ChatId, message_id: MessageId) -> Message:
    row_id = _heads(cursor, chat_id)[0]
    row = cursor.execute(sql.MESSAGE_BY_ID, {"chat": row_id, "uuid": message_id}).fetchone()
    if row is None:
        raise MessageNotFound(message_id)
    return decode_message(*row)


def list_chats(
    cursor: sqlite3.Cursor, owner_id: OwnerId, limit: int, wanted: pages.ChatFilter
) -> ChatPage:
    labels, statuses = wanted.wanted_labels, wanted.wanted_statuses
    parameters = {
        "owner_id": owner_id,
        "below": wanted.below,
        "include_archived": wanted.include_archived,
        "parent_id": wanted.parent_id,
        "limit": limit + 1,
        **{f"label{number}": label for number, label in enumerate(labels)},
        **{f"status{number}": status for number, status in enumerate(statuses)},
    }
    children = wanted.parent_id is not None
    query = sql.owned(len(statuses), len(labels), children=children)
    rows = cursor.execute(query, parameters).fetchall()
    page = [ChatRow._make(row) for row in rows[:limit]]
    chats = tuple(state_of(row, None, {}) for row in page)
    return ChatPage(chats, pages.chat_key(page[-1].id) if len(rows) > limit else None)


def list_actions(
    cursor: sqlite3.Cursor,
    owner_id: OwnerId,
    limit: int,
    after_key: str | None,
    chat_id: ChatId | None,
) -> ChatPage:
    """Return an owner's chats that wait for the client, first deadline first."""
    due_at, row_id = pages.after_action(after_key)
    parameters = {
        "owner_id": owner_id,
        "due_at": due_at,
        "id": row_id,
        "uuid": chat_id,
        "limit": limit + 1,
    }
    rows = cursor.execute(sql.ACTIONS, parameters).fetchall()
    page = [(ChatRow._make(row), due_at) for *row, due_at in rows[:limit]]
    chats = tuple(
        without_answered(state_of(row, None, {}), _answered(cursor, row.id)) for row, _ in page
    )
    if len(rows) <= limit:
        return ChatPage(chats, None)
    last, due_at = page[-1]
    return ChatPage(chats, pages.action_key(due_at, last.id))


def _answered(cursor: sqlite3.Cursor, row_id: int) -> set[ToolCallId]:
    return {call_id for (call_id,) in cursor.execute(sql.ANSWERED, (row_id,))}


def next_due(cursor: sqlite3.Cursor, now: Instant) -> Instant | None:
    """Return when the earliest retry after now, the earliest deadline or the end of a lease is
    due.
    """
    retry = cursor.execute(sql.NEXT_RETRY, (now,)).fetchone()[0]
    deadline = cursor.execute(sql.NEXT_DEADLINE).fetchone()[0]
    expiry = cursor.execute(sql.NEXT_EXPIRY).fetchone()[0]
    return min((at for at in (retry, deadline, expiry) if at is not None), default=None)


def find_key(cursor: sqlite3.Cursor, key_hash: bytes) -> KeyRecord | None:
    row = cursor.execute(sql.FIND_KEY, (key_hash,)).fetchone()
    return None if row is None else KeyRecord(*row)


def list_keys(cursor: sqlite3.Cursor) -> list[KeyRecord]:
    return [KeyRecord(*row) for row in cursor.execute(sql.LIST_KEYS)]


def secret(cursor: sqlite3.Cursor, name: str) -> bytes | None:
    row = cursor.execute(sql.FIND_SECRET, (name,)).fetchone()
    return None if row is None else row[0]


def one(cursor: sqlite3.Cursor) -> bool:
    """Read as little as possible: does the database answer?"""
    cursor.execute("SELECT 1 FROM chats LIMIT 1").fetchone()
    return True


def _heads(cursor: sqlite3.Cursor, chat_id: ChatId) -> tuple[int, int, int]:
    row = cursor.execute(sql.HEADS, (chat_id,)).fetchone()
    if row is None:
        raise ChatNotFound(chat_id)
    row_id, oldest, head = row
    return row_id, oldest, head


def _page(
    rows: sqlite3.Cursor, bytes_max: int, limit: int | None = None
) -> tuple[list[Message], bool]:
    page, more = pages.first_page(rows, _message_weight, bytes_max, limit)
    return [decode_message(*row) for row in page], more


def _message_weight(row: Row) -> int:
    return page_weight(row[1])
