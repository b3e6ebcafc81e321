"""A chat's state from the rows of `statements.LOAD` and its like."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from chatd_server.domain.chat import ChatState
from chatd_server.store.codec import decode_queued, decode_result
from chatd_server.store.rows import STATE_COLUMNS, Journal, state_of

Row: TypeAlias = Any

WIDTH = len(STATE_COLUMNS) + 2
"""Columns that `read_state` takes: the chat's row, its queue, its journal."""


def read_state(row: Row) -> ChatState:
    """Return the state of a row that ends with STATE_COLUMNS, queue contents and journal."""
    *columns, queued, journal = row[-WIDTH:]
    contents = {uuid: decode_queued(version, content) for uuid, version, content in queued or ()}
    return state_of(columns, contents, read_journal(journal))


def read_journal(rows: Sequence[Row]) -> Journal:
    """Return what the journal knows of the chat's open calls."""
    return {
        call_id: (started_at, None if outcome is None else decode_result(version, outcome))
        for call_id, started_at, version, outcome in rows
    }
