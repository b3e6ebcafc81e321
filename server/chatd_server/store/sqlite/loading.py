"""A chat's state from its rows. The caller holds the transaction."""

import sqlite3

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.shared import replay
from chatd_server.store.shared.codec import (
    decode_config,
    decode_message,
    decode_queued,
    decode_result,
)
from chatd_server.store.shared.columns import Row
from chatd_server.store.shared.open_calls import Journal, with_journal
from chatd_server.store.shared.rows import ChatRow, state_of
from chatd_server.store.sqlite import statements as sql


def read_state(cursor: sqlite3.Cursor, selected: Row) -> tuple[int, ChatState]:
    """Return the row id and the state of a row of STATE_COLUMNS, queue contents and journal
    included.
    """
    row = ChatRow._make(selected)
    queued = {}
    if row.queue is not None:
        queued = {
            uuid: decode_queued(version, content)
            for uuid, version, content in cursor.execute(sql.CONTENTS_OF_QUEUE, (row.id,))
        }
    state = state_of(row, queued, {})
    if not state.calls:  # then the journal has nothing of this chat
        return row.id, state
    calls = with_journal(state.calls, _journal(cursor, row.id))
    return row.id, msgspec.structs.replace(state, calls=calls)


def read_answer(cursor: sqlite3.Cursor, found: Row, request: RequestKey | None) -> Applied:
    """Return what the command of a row of FIND_COMMAND was told. Raises RequestIdReused."""
    row_id, record = found[0], replay.Record._make(found[1:])
    stored = replay.recalled(record, request)
    if stored is None:
        row = cursor.execute(sql.LOAD_ROW, (row_id,)).fetchone()
        return replay.told_now(record, read_state(cursor, row)[1])
    config = message = None
    if not stored.has_config:
        config = decode_config(*cursor.execute(sql.CONFIG, (row_id,)).fetchone())
    if stored.position is not None:
        where = {"chat": row_id, "position": stored.position}
        message = decode_message(*cursor.execute(sql.MESSAGE_AT, where).fetchone())
    return replay.told_again(record, stored, config, message)


def _journal(cursor: sqlite3.Cursor, row_id: int) -> Journal:
    return {
        call_id: (started_at, None if outcome is None else decode_result(version, outcome))
        for call_id, started_at, version, outcome in cursor.execute(sql.JOURNAL, (row_id,))
    }
