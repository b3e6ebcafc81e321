"""What one transition writes, as one statement that compares and sets the revision.

The statement is composed of the branches that the transition needs. Each of them selects from the
chat's updated row, so a comparison that fails writes nothing at all.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.message import CONTENT_VERSION, Message, ToolResult
from chatd_server.domain.transition import Transition
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.pieces import PIECE_BYTES
from chatd_server.store.postgres.query import arrays
from chatd_server.store.shared.changes import (
    NO_SIDE_ROWS,
    SideRows,
    changed_columns,
    side_rows,
)
from chatd_server.store.shared.columns import BIGINT, TEXT, Column, Columns, Row
from chatd_server.store.shared.rows import (
    COMMAND,
    EVENT,
    MESSAGE,
    NEW_CHAT,
    OUTCOME,
    QUEUED,
    STARTED,
)

Arguments: TypeAlias = list[Any]

LABEL = """greatest(pg_current_xact_id()::text::bigint, (
    SELECT e.txid FROM events AS e WHERE e.chat = chats.id ORDER BY e.sequence DESC LIMIT 1))"""
"""The transaction that the events of a chat are labelled with, so that labels rise with the log.
That is almost always the writing one. One that waited for the chat's row may be older than the one
that it waited for, and then takes its label: watchers wait for the older one anyway."""

_NEW_NAMES = [name for group in NEW_CHAT for name in group.names]
_INSERT = f"""
INSERT INTO chats ({", ".join(_NEW_NAMES)}, content_version)
VALUES ({", ".join("{}" for _ in _NEW_NAMES)}, {CONTENT_VERSION})
ON CONFLICT (uuid) DO NOTHING RETURNING id, {LABEL} AS txid"""
_COMPARE = Columns(Column("uuid", TEXT, "id"), Column("revision", BIGINT), Column("epoch", BIGINT))
_COMPARE_JOURNAL = Columns(*_COMPARE, Column("journal", BIGINT))
# Nothing to write but the answer to a request; it is right only while the revision is.
_SAME_REVISION = Columns(Column("uuid", TEXT, "id"), Column("revision", BIGINT))

ROWS_MAX = 4
"""More rows than these are handed over as arrays. Few rows are cheaper one by one, but each number
of rows is a statement of its own."""


PIECE_ROWS = 256
"""Rows of one piece, however small they are: each takes some microseconds to encode."""


def _arrays(columns: Columns) -> str:
    return f"unnest({', '.join(f'{{}}::{column.type}[]' for column in columns)})"


def _one(columns: Columns) -> str:
    return ", ".join(f"{{}}::{column.type}" for column in columns)


def _into(table: str, columns: Columns, **constants: str) -> str:
    """Return the insert of rows `r` with these columns and constants into a table."""
    names = ", ".join(("chat", *columns.names, *constants))
    values = ", ".join(("w.id", "r.*", *constants.values()))
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM written AS w,"


def _rows(name: str, into: str, columns: Columns) -> dict[str, str]:
    """Return the branches that insert 1, 2, ... and any number of rows."""
    few = {
        f"{number} {name}": f"{into} (VALUES {', '.join([f'({_one(columns)})'] * number)}) AS r"
        for number in range(1, ROWS_MAX + 1)
    }
    return few | {f"many {name}": f"{into} {_arrays(columns)} AS r"}


_VERSION = f"{CONTENT_VERSION}::smallint"
BRANCHES = {
    "removed": "UPDATE messages AS m SET removed_revision = {} FROM written AS w"
    " WHERE m.chat = w.id AND m.position >= {} AND m.removed_revision IS NULL",
    **_rows("messages", _into("messages", MESSAGE, content_version=_VERSION), MESSAGE),
    **_rows(
        "events",
        _into("events", EVENT, content_version=_VERSION, txid="w.txid"),
        EVENT,
    ),
    "command": f"{_into('commands', COMMAND)} (VALUES ({_one(COMMAND)})) AS r",
    "enqueued": f"{_into('queued_messages', QUEUED, content_version=_VERSION)}"
    f" {_arrays(QUEUED)} AS r",
    "dequeued": "DELETE FROM queued_messages AS q USING written AS w"
    " WHERE q.chat = w.id AND q.uuid = ANY({}::text[])",
    "outcomes": f"{_into('tool_journal AS j', OUTCOME, content_version=_VERSION)}"
    f" {_arrays(OUTCOME)} AS r {sql.FIRST_OUTCOME_STANDS}",
    "started": f"{_into('tool_journal', STARTED, content_version=_VERSION)}"
    f" {_arrays(STARTED)} AS r ON CONFLICT (chat, call_id)"
    " DO UPDATE SET started_at = excluded.started_at",
    "closed": "DELETE FROM tool_journal AS j USING written AS w"
    " WHERE j.chat = w.id AND j.call_id = ANY({}::text[])",
}
"""The writes besides the chat's row. Each `{}` is one argument, in the order of the columns."""


class Write(NamedTuple):
    """A statement that returns the chat's row id, or nothing when the comparison failed."""

    statement: str
    arguments: Arguments
    #: A message alone is more than a piece: encoding it took a turn of the loop, sending takes one.
    is_large: bool = False
    #: What is beyond the first piece, to be written in the same transaction.
    messages: Sequence[Message] = ()
    outcomes: Sequence[ToolResult] = ()
    events: Sequence[LoggedEvent] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to be written after the statement."""
        return not (self.messages or self.outcomes or self.events)


def write(
    old: ChatState | None,
    transition: Transition,
    record: Row,
    *,
    compare_journal: bool,
    in_pieces: bool = False,
) -> Write:
    """Return the statement for a transition that changes something.

    `compare_journal`: the decision looked at the journal of open calls, so the comparison fails if
    an outcome was recorded meanwhile. `in_pieces`: what is beyond the first piece is left for
    `write_rest`.
    """
    new = transition.state
    if old is None:
        chat, arguments = _INSERT, _values(NEW_CHAT, new)
    else:
        groups = changed_columns(old, new)
        compared = _COMPARE_JOURNAL if compare_journal else _COMPARE
        chat, arguments = _update(groups, compared), _values(groups, new)
        arguments += compared.values(old)
    names: list[str] = []
    if transition.removed_from is not None:
        names.append("removed")
        arguments += (new.revision, transition.removed_from)
    messages = transition.messages
    rows = first_piece(messages, MESSAGE) if in_pieces else MESSAGE.rows(messages)
    if rows:
        _insert("messages", rows, names, arguments)
    events = transition.events
    left = events[PIECE_ROWS:] if in_pieces else ()
    if events:
        _insert("events", EVENT.rows(events[: len(events) - len(left)]), names, arguments)
    side = side_rows(old, new)
    outcomes: Sequence[ToolResult] = ()
    if side is not NO_SIDE_ROWS:
        outcomes = _write_sides(side, names, arguments)
    if transition.started:
        names.append("started")
        arguments += zip(*STARTED.rows(transition.started), strict=True)
    names.append("command")
    arguments += record
    is_large = any(len(row[-1]) > PIECE_BYTES for row in rows)
    statement = compose(chat, tuple(names))
    return Write(statement, arguments, is_large, messages[len(rows) :], outcomes, left)


def write_answer(old: ChatState, record: Row) -> Write:
    """Return the statement that keeps the answer to a request which changes nothing."""
    chat = f"SELECT id FROM chats WHERE {_equal(_SAME_REVISION)}"
    return Write(compose(chat, ("command",)), [*_SAME_REVISION.values(old), *record])


def first_piece(items: Sequence[Any], columns: Columns) -> list[Row]:
    """Return the rows of the first items: about a piece, at least one. Contents come last."""
    if len(items) <= 1:
        return columns.rows(items)
    rows: list[Row] = []
    size = 0
    for item in items:
        rows.append(columns.values(item))
        size += len(rows[-1][-1])
        if size > PIECE_BYTES or len(rows) == PIECE_ROWS:
            break
    return rows


async def write_rest(
    link: Any,
    row_id: int,
    messages: Sequence[Message],
    outcomes: Sequence[ToolResult] = (),
    events: Sequence[LoggedEvent] = (),
) -> None:
    """Write what a chat's first statement left, a piece at a time, in its transaction."""
    while messages:
        rows = first_piece(messages, MESSAGE)
        await link.execute(*sql.INSERT_MESSAGES(chat=row_id, **arrays("m", MESSAGE, rows)))
        messages = messages[len(rows) :]
    while outcomes:
        rows = first_piece(outcomes, OUTCOME)
        await link.execute(*sql.INSERT_OUTCOMES(chat=row_id, **arrays("o", OUTCOME, rows)))
        outcomes = outcomes[len(rows) :]
    while events:
        rows = EVENT.rows(events[:PIECE_ROWS])
        await link.execute(*sql.INSERT_EVENTS(chat=row_id, **arrays("e", EVENT, rows)))
        events = events[PIECE_ROWS:]


@lru_cache(maxsize=256)
def compose(chat: str, names: tuple[str, ...]) -> str:
    """Return a statement that writes the chat's row and these branches."""
    branches = [f"written AS ({chat})"]
    branches += [f"part_{number} AS ({BRANCHES[name]})" for number, name in enumerate(names)]
    numbers = count(1)
    text = ", ".join(branches)
    return f"WITH {re.sub('{}', lambda _: f'${next(numbers)}', text)} SELECT id FROM written"


@lru_cache(maxsize=64)
def _update(groups: Sequence[Columns], compared: Columns) -> str:
    names = ", ".join(f"{name} = {{}}" for group in groups for name in group.names)
    return (
        f"UPDATE chats SET {names}, content_version = {CONTENT_VERSION}"
        f" WHERE {_equal(compared)} RETURNING id, {LABEL} AS txid"
    )


def _equal(columns: Columns) -> str:
    return " AND ".join(f"{name} = {{}}" for name in columns.names)


def _values(groups: Sequence[Columns], new: ChatState) -> Arguments:
    return [value for group in groups for value in group.values(new)]


def _insert(table: str, rows: Sequence[Row], names: list[str], arguments: Arguments) -> None:
    if len(rows) <= ROWS_MAX:
        names.append(f"{len(rows)} {table}")
        for row in rows:
            arguments += row
    else:
        names.append(f"many {table}")
        arguments += zip(*rows, strict=True)


def _write_sides(side: SideRows, names: list[str], arguments: Arguments) -> Sequence[ToolResult]:
    """Write the queue and the journal; return the results that are left for the next piece."""
    left = side.outcomes
    if side.enqueued:
        names.append("enqueued")
        arguments += zip(*QUEUED.rows(side.enqueued), strict=True)
    if side.dequeued:
        names.append("dequeued")
        arguments.append(side.dequeued)
    if side.outcomes:
        names.append("outcomes")
        rows = first_piece(left, OUTCOME)
        arguments += zip(*rows, strict=True)
        left = left[len(rows) :]
    if side.closed:
        names.append("closed")
        arguments.append(side.closed)
    return left
