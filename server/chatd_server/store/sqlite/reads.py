"""What is read without changing anything. Each function runs in one read transaction."""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import ChatId, Instant, MessageId, OwnerId, ToolCallId
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import (
    ChatNotFound,
    CursorAhead,
    CursorExpired,
    MessageNotFound,
)
from chatd_server.ports.keys import KeyRecord
from chatd_server.ports.store import ChatPage, EventPage
from chatd_server.store.shared.codec import decode_message, encode_label, page_weight
from chatd_server.store.shared.open_calls import without_answered
from chatd_server.store.shared.rows import STATE_COLUMNS, event_of, event_weight, state_of
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.loading import read_state

_OWNER = STATE_COLUMNS.index("owner_id")
_DELETED = STATE_COLUMNS.index("deleted_at")
_ROW_ID = STATE_COLUMNS.index("id")


def load(cursor: sqlite3.Cursor, chat_id: ChatId, owner_id: OwnerId | None) -> ChatState:
    """Return the state; a deleted chat is found only by those who do not ask as an owner."""
    row = cursor.execute(sql.LOAD, (chat_id,)).fetchone()
    if row is None:
        raise ChatNotFound(chat_id)
    if owner_id is not None and (row[_OWNER] != owner_id or row[_DELETED] is not None):
        raise ChatNotFound(chat_id)
    return read_state(cursor, row)


def events(
    cursor: sqlite3.Cursor, chat_id: ChatId, after: int, limit: int, bytes_max: int
) -> EventPage:
    """Return a page of the log: at least one event if there is one, and about `bytes_max`."""
    row_id, oldest, head = _heads(cursor, chat_id)
    if after > head:
        raise CursorAhead(f"the cursor is at {after}, and the log ends at {head}", oldest, head)
    if after < oldest - 1:
        raise CursorExpired(
            f"the cursor is at {after}, and the log begins at {oldest}: subscribe without a"
            " cursor to start from a snapshot",
            oldest,
            head,
        )
    page: list[LoggedEvent] = []
    size = 0
    for row in cursor.execute(sql.EVENTS, (row_id, after, limit)):
        size += event_weight(row)
        if page and size > bytes_max:
            break
        page.append(event_of(row))
    return EventPage(tuple(page), oldest, head)


def messages(
    cursor: sqlite3.Cursor, chat_id: ChatId, after_position: int, limit: int, bytes_max: int
) -> tuple[list[Message], bool]:
    """Return a page of the messages that stand, and whether more follow."""
    row_id = _heads(cursor, chat_id)[0]
    rows = cursor.execute(sql.MESSAGES, (row_id, after_position, limit + 1))
    return _page(rows, limit, bytes_max)


def messages_as_of(
    cursor: sqlite3.Cursor, state: ChatState, after_position: int, bytes_max: int
) -> tuple[list[Message], bool]:
    """Return a page of the messages that stood at the revision of a state.

    Messages are immutable and their removal has a revision, so pages that are read one after
    another show one moment.
    """
    row_id = _heads(cursor, state.id)[0]
    rows = cursor.execute(
        sql.MESSAGES_AS_OF, (row_id, after_position, state.next_position, state.revision)
    )
    return _page(rows, None, bytes_max)


def contexts(cursor: sqlite3.Cursor, states: Sequence[ChatState]) -> list[tuple[Message, ...]]:
    """Return the messages that each model's context begins with, as of the states."""
    return [_context(cursor, state) for state in states]


def _context(cursor: sqlite3.Cursor, state: ChatState) -> tuple[Message, ...]:
    row_id = _heads(cursor, state.id)[0]
    rows = cursor.execute(
        sql.MESSAGES_AS_OF,
        (row_id, state.boundary_position - 1, state.next_position, state.revision),
    )
    return tuple(decode_message(*row) for row in rows)


def message(cursor: sqlite3.Cursor, chat_id: ChatId, message_id: MessageId) -> Message:
    """Return a message that stands."""
    row_id = _heads(cursor, chat_id)[0]
    row = cursor.execute(sql.MESSAGE_BY_ID, (row_id, message_id)).fetchone()
    if row is None:
        raise MessageNotFound(message_id)
    return decode_message(*row)


class ChatFilter(msgspec.Struct, frozen=True):
    """Which chats of an owner."""

    after_key: str | None
    include_archived: bool
    labels: Mapping[str, str]
    statuses: Sequence[Status]


def list_chats(
    cursor: sqlite3.Cursor, owner_id: OwnerId, limit: int, wanted: ChatFilter
) -> ChatPage:
    """Return an owner's chats, newest first."""
    query = sql.OWNED
    bound: list[object] = [owner_id]
    if wanted.after_key is not None:
        query += " AND id < ?"
        bound.append(int(wanted.after_key))
    if not wanted.include_archived:
        query += " AND NOT archived"
    if wanted.statuses:
        query += f" AND status IN ({', '.join('?' * len(wanted.statuses))})"
        bound += [status.value for status in wanted.statuses]
    for name, value in wanted.labels.items():
        query += " AND instr(labels, ?) > 0"
        bound.append(encode_label(name, value))
    rows = cursor.execute(f"{query} ORDER BY id DESC LIMIT ?", (*bound, limit + 1)).fetchall()
    chats = tuple(state_of(row, None, {}) for row in rows[:limit])
    return ChatPage(chats, str(rows[limit - 1][_ROW_ID]) if len(rows) > limit else None)


def list_actions(
    cursor: sqlite3.Cursor,
    owner_id: OwnerId,
    limit: int,
    after_key: str | None,
    chat_id: ChatId | None,
) -> ChatPage:
    """Return an owner's chats that wait for the client, first deadline first."""
    query = sql.ACTIONS
    bound: list[object] = [owner_id]
    if after_key is not None:
        due_at, _, row_id = after_key.partition(".")
        query += " AND (due_at, id) > (?, ?)"
        bound += [int(due_at), int(row_id)]
    if chat_id is not None:
        query += " AND uuid = ?"
        bound.append(chat_id)
    rows = cursor.execute(f"{query} ORDER BY due_at, id LIMIT ?", (*bound, limit + 1)).fetchall()
    chats = tuple(
        without_answered(state_of(row[:-1], None, {}), _answered(cursor, row[_ROW_ID]))
        for row in rows[:limit]
    )
    last = rows[limit - 1] if len(rows) > limit else None
    return ChatPage(chats, None if last is None else f"{last[-1]}.{last[_ROW_ID]}")


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
    """Return the key with this hash unless it was revoked."""
    row = cursor.execute(sql.FIND_KEY, (key_hash,)).fetchone()
    return None if row is None else KeyRecord(*row)


def list_keys(cursor: sqlite3.Cursor) -> list[KeyRecord]:
    """Return all keys, newest first."""
    return [KeyRecord(*row) for row in cursor.execute(sql.LIST_KEYS)]


def secret(cursor: sqlite3.Cursor, name: str) -> bytes | None:
    """Return a secret; None until it is made."""
    row = cursor.execute(sql.FIND_SECRET, (name,)).fetchone()
    return None if row is None else row[0]


def one(cursor: sqlite3.Cursor) -> bool:
    """Read the smallest thing there is."""
    cursor.execute("SELECT 1 FROM chats LIMIT 1").fetchone()
    return True


def _heads(cursor: sqlite3.Cursor, chat_id: ChatId) -> tuple[int, int, int]:
    row = cursor.execute(sql.HEADS, (chat_id,)).fetchone()
    if row is None:
        raise ChatNotFound(chat_id)
    row_id, oldest, head = row
    return row_id, oldest, head


def _page(rows: sqlite3.Cursor, limit: int | None, bytes_max: int) -> tuple[list[Message], bool]:
    page: list[Message] = []
    size = 0
    for version, content in rows:
        size += page_weight(content)
        if page and (size > bytes_max or len(page) == limit):
            return page, True
        page.append(decode_message(version, content))
    return page, False
