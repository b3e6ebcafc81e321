"""A chat's state from the rows of `statements.LOAD` and its like."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from chatd_server.domain.chat import ChatState, Queued
from chatd_server.domain.message import ToolResult
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.pieces import in_pieces
from chatd_server.store.shared.codec import decode_queued, decode_result
from chatd_server.store.shared.rows import STATE_WIDTH, ChatRow, state_of

Row: TypeAlias = Any

_WIDTH = STATE_WIDTH + 2
"""Columns at the end of a row: the chat's row, its queue, its journal."""
_NOTHING: Mapping[str, Any] = {}


def is_whole(row: Row) -> bool:
    """Say whether a row has all contents: those beyond a piece are left out."""
    return all(entry[3] is not None for entry in row[-2] or ()) and all(
        entry[4] is not None or entry[3] is None for entry in row[-1]
    )


async def read_state(link: Any, row: Row) -> ChatState:
    """Return the state of a row that ends with STATE_COLUMNS, queue contents and journal.

    Contents that the row leaves out are read in pieces. The caller makes sure that they are as of
    the row: by a lock of the chat, or a snapshot of the database. A whole row needs neither.
    """
    if is_whole(row):
        return _state_of(row, _NOTHING, _NOTHING)
    row_id = row[-_WIDTH]
    queued: dict[str, Queued] = {}
    left = [(uuid, size) for uuid, _, size, content in row[-2] or () if content is None]
    for piece in in_pieces(left, _size):
        for uuid, *stored in await link.fetch(
            *sql.QUEUED(chat=row_id, uuids=[uuid for uuid, _ in piece])
        ):
            queued[uuid] = decode_queued(*stored)
    outcomes: dict[str, ToolResult] = {}
    left = [(it[0], it[3]) for it in row[-1] if it[4] is None and it[3] is not None]
    for piece in in_pieces(left, _size):
        for call_id, *stored in await link.fetch(
            *sql.OUTCOMES(chat=row_id, call_ids=[it for it, _ in piece])
        ):
            outcomes[call_id] = decode_result(*stored)
    return _state_of(row, queued, outcomes)


def _size(entry: tuple[str, int]) -> int:
    return entry[1]


def _state_of(
    row: Row, queued: Mapping[str, Queued], outcomes: Mapping[str, ToolResult]
) -> ChatState:
    *columns, queue_rows, journal_rows = row[-_WIDTH:]
    contents = {
        uuid: queued[uuid] if content is None else decode_queued(version, content)
        for uuid, version, _, content in queue_rows or ()
    }
    known = {
        call_id: decode_result(version, outcome)
        for call_id, _, version, _, outcome in journal_rows
        if outcome is not None
    }
    journal = {
        call_id: (started_at, None if size is None else known.get(call_id) or outcomes[call_id])
        for call_id, started_at, _, size, _ in journal_rows
    }
    return state_of(ChatRow._make(columns), contents, journal)
