"""A chat's state from its rows, on whatever connection; the caller holds the transaction."""

import sqlite3

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.store.shared.codec import decode_queued, decode_result
from chatd_server.store.shared.open_calls import Journal, with_journal
from chatd_server.store.shared.rows import STATE_COLUMNS, Row, state_of
from chatd_server.store.sqlite import statements as sql

_ROW_ID = STATE_COLUMNS.index("id")
_QUEUE = STATE_COLUMNS.index("queue")


def read_state(cursor: sqlite3.Cursor, row: Row) -> ChatState:
    """Return the state of a row of STATE_COLUMNS, queue contents and journal included."""
    row_id = row[_ROW_ID]
    queued = {}
    if row[_QUEUE] is not None:
        queued = {
            uuid: decode_queued(version, content)
            for uuid, version, content in cursor.execute(sql.QUEUED, (row_id,)).fetchall()
        }
    state = state_of(row, queued, {})
    if not state.calls:  # then the journal has nothing of this chat
        return state
    calls = with_journal(state.calls, read_journal(cursor, row_id))
    return msgspec.structs.replace(state, calls=calls)


def read_journal(cursor: sqlite3.Cursor, row_id: int) -> Journal:
    """Return what the journal knows of the chat's open calls."""
    return {
        call_id: (started_at, None if outcome is None else decode_result(version, outcome))
        for call_id, started_at, version, outcome in cursor.execute(
            sql.JOURNAL, (row_id,)
        ).fetchall()
    }
