"""What one transition writes, as one statement that compares and sets the revision.

The statement is put together from the branches that the transition needs. Each of them selects
from the chat's updated row, so a missed compare writes nothing at all.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, TypeAlias, TypeVar

from chatd_server.domain.chat import ChatState
from chatd_server.domain.ids import Instant
from chatd_server.domain.message import CONTENT_VERSION, Message, ToolResult
from chatd_server.domain.transition import Transition
from chatd_server.ports.store import RequestKey
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.pieces import PIECE_BYTES
from chatd_server.store.shared.rows import (
    NO_SIDE_ROWS,
    Row,
    SideRows,
    deleted_at,
    due_at,
    encode_response,
    event_rows,
    hot_state,
    is_step,
    keeps_lease,
    message_rows,
    outcome_rows,
    queue_order,
    side_rows,
)

Arguments: TypeAlias = list[Any]
It = TypeVar("It")

_INSERT = """
INSERT INTO chats (uuid, owner_id, parent_id, parent_call_id, root_id, status, archived,
    deleted_at, revision, head_sequence, oldest_sequence, next_position, epoch, journal, due_at,
    created_at, updated_at, content_version, state, config, labels, queue)
VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, 0, {}, {}, {}, {}, {}, {}, {}, {})
ON CONFLICT (uuid) DO NOTHING RETURNING id"""
# A step of a running turn touches no indexed column, so no index is written either.
_STEP = f"""
UPDATE chats SET revision = {{}}, head_sequence = {{}}, next_position = {{}}, updated_at = {{}},
    content_version = {CONTENT_VERSION}, state = {{}}"""
_CHANGE = (
    _STEP
    + """, owner_id = {}, status = {}, archived = {}, deleted_at = {},
    due_at = {}, queue = {}"""
)
_LEASE = ", epoch = {}, worker_id = {}, lease_expires_at = {}"
_CONFIG = ", config = {}, labels = {}"
_COMPARE = " WHERE uuid = {} AND revision = {} AND epoch = {}"
_COMPARE_JOURNAL = " AND journal = {}"
_RETURNING = " RETURNING id"
# Nothing to write but the answer to a request; it is right only while the revision is.
_UNCHANGED = "SELECT id FROM chats WHERE uuid = {} AND revision = {}"

ROWS_MAX = 4
"""More rows than these are handed over as arrays. Few rows are cheaper one by one, but each number
of rows is a statement of its own."""


def _rows(table: str, types: Sequence[str], more: str = "") -> dict[str, str]:
    """Return the branches that insert 1, 2, ... and any number of rows into a table."""
    one = f"({', '.join(f'{{}}::{type_}' for type_ in types)})"
    arrays = f"unnest({', '.join(f'{{}}::{type_}[]' for type_ in types)})"
    into = f"INSERT INTO {table} SELECT w.id, r.*{more} FROM written AS w,"
    few = {
        f"{count} {table}": f"{into} (VALUES {', '.join([one] * count)}) AS r"
        for count in range(1, ROWS_MAX + 1)
    }
    return few | {f"many {table}": f"{into} {arrays} AS r"}


_MESSAGES = "messages (chat, position, uuid, role, sequence, content, content_version)"
_EVENTS = "events (chat, sequence, kind, at, position, payload, content_version, txid)"

BRANCHES = {
    "removed": "UPDATE messages AS m SET removed_revision = {} FROM written AS w"
    " WHERE m.chat = w.id AND m.position >= {} AND m.removed_revision IS NULL",
    **_rows(
        _MESSAGES, ("bigint", "text", "text", "bigint", "bytea"), f", {CONTENT_VERSION}::smallint"
    ),
    **_rows(
        _EVENTS,
        ("bigint", "smallint", "bigint", "bigint", "bytea"),
        f", {CONTENT_VERSION}::smallint, pg_current_xact_id()::text::bigint",
    ),
    "command": "INSERT INTO commands (key, chat, sequence, created_at, body_hash, response)"
    " SELECT {}::bytea, w.id, {}::bigint, {}::bigint, {}::bytea, {}::bytea FROM written AS w",
    "enqueued": "INSERT INTO queued_messages (chat, uuid, content_version, content)"
    " SELECT w.id, q.* FROM written AS w,"
    " unnest({}::text[], {}::smallint[], {}::bytea[]) AS q",
    "dequeued": "DELETE FROM queued_messages AS q USING written AS w"
    " WHERE q.chat = w.id AND q.uuid = ANY({}::text[])",
    # The first outcome stands.
    "outcomes": "INSERT INTO tool_journal AS j (chat, call_id, content_version, outcome)"
    " SELECT w.id, o.* FROM written AS w,"
    " unnest({}::text[], {}::smallint[], {}::bytea[]) AS o ON CONFLICT (chat, call_id)"
    " DO UPDATE SET outcome = excluded.outcome, content_version = excluded.content_version"
    " WHERE j.outcome IS NULL",
    "started": "INSERT INTO tool_journal (chat, call_id, started_at, content_version)"
    f" SELECT w.id, s.*, {CONTENT_VERSION}::smallint FROM written AS w,"
    " unnest({}::text[], {}::bigint[]) AS s ON CONFLICT (chat, call_id)"
    " DO UPDATE SET started_at = excluded.started_at",
    "closed": "DELETE FROM tool_journal AS j USING written AS w"
    " WHERE j.chat = w.id AND j.call_id = ANY({}::text[])",
}
"""What stands beside the chat's row. Each `{}` is one argument, in order."""


class Write(NamedTuple):
    """A statement that answers the chat's row id, or nothing when the compare missed."""

    statement: str
    arguments: Arguments
    #: A message alone is more than a piece: encoding it took a turn of the loop, sending takes one.
    is_large: bool = False
    #: Messages and kept results beyond the first piece, to be written in the same transaction.
    messages: Sequence[Message] = ()
    outcomes: Sequence[ToolResult] = ()


class Record(NamedTuple):
    """What `commands` keeps of a command."""

    key: bytes
    now: Instant
    request: RequestKey | None


def write(
    old: ChatState | None,
    transition: Transition,
    record: Record,
    *,
    compare_journal: bool,
    in_pieces: bool = False,
) -> Write:
    """Return the statement for a transition that changes something.

    `compare_journal`: the decision looked at the journal of open calls, so an outcome that was
    recorded meanwhile makes it miss. `in_pieces`: results beyond the first piece are left for
    `write_rest`.
    """
    side = side_rows(old, transition.state)
    if old is None:
        chat, arguments = _INSERT, _inserted(transition.state, side)
    else:
        chat, arguments = _updated(old, transition.state, side, compare_journal)
    names: list[str] = []
    if transition.removed_from is not None:
        names.append("removed")
        arguments += (transition.state.revision, transition.removed_from)
    messages = transition.messages
    rows = first_piece(messages, message_rows) if in_pieces else message_rows(messages)
    if rows:
        _insert(_MESSAGES, rows, names, arguments)
    if transition.events:
        _insert(_EVENTS, event_rows(transition.events), names, arguments)
    outcomes: Sequence[ToolResult] = ()
    if side is not NO_SIDE_ROWS:
        outcomes = _beside(side, names, arguments)
    if transition.started:
        names.append("started")
        arguments.append([call.call_id for call in transition.started])
        arguments.append([call.started_at for call in transition.started])
    names.append("command")
    arguments += _recorded(old, transition, record)
    is_large = any(len(row[-1]) > PIECE_BYTES for row in rows)
    return Write(compose(chat, tuple(names)), arguments, is_large, messages[len(rows) :], outcomes)


def first_piece(items: Sequence[It], rows_of: Callable[[Sequence[It]], list[Row]]) -> list[Row]:
    """Return the rows of the first items: about a piece, at least one. Contents come last."""
    if len(items) <= 1:
        return rows_of(items)
    rows: list[Row] = []
    size = 0
    for item in items:
        rows += rows_of((item,))
        size += len(rows[-1][-1])
        if size > PIECE_BYTES:
            break
    return rows


async def write_rest(
    link: Any, row_id: int, messages: Sequence[Message], outcomes: Sequence[ToolResult] = ()
) -> None:
    """Write what a chat's first statement left, a piece at a time, in its transaction."""
    while messages:
        rows = first_piece(messages, message_rows)
        await link.execute(sql.INSERT_MESSAGES, row_id, *zip(*rows, strict=True))
        messages = messages[len(rows) :]
    while outcomes:
        rows = first_piece(outcomes, outcome_rows)
        await link.execute(sql.INSERT_OUTCOMES, row_id, *zip(*rows, strict=True))
        outcomes = outcomes[len(rows) :]


def write_answer(old: ChatState, transition: Transition, record: Record) -> Write:
    """Return the statement that keeps the answer to a request which changes nothing."""
    arguments: Arguments = [old.id, old.revision, *_recorded(old, transition, record)]
    return Write(compose(_UNCHANGED, ("command",)), arguments)


@lru_cache(maxsize=256)
def compose(chat: str, names: tuple[str, ...]) -> str:
    """Return a statement that writes the chat's row and these branches."""
    branches = [f"written AS ({chat})"]
    branches += [f"part_{number} AS ({BRANCHES[name]})" for number, name in enumerate(names)]
    numbers = count(1)
    text = ", ".join(branches)
    return f"WITH {re.sub('{}', lambda _: f'${next(numbers)}', text)} SELECT id FROM written"


def _inserted(new: ChatState, side: SideRows) -> Arguments:
    config, labels = side.config or (b"", b"")
    return [
        new.id,
        new.owner_id,
        new.parent_id,
        new.parent_call_id,
        new.root_id,
        new.status.value,
        new.archived,
        deleted_at(new),
        new.revision,
        new.head_sequence,
        new.oldest_sequence,
        new.next_position,
        new.epoch,
        due_at(new),
        new.created_at,
        new.updated_at,
        CONTENT_VERSION,
        hot_state(new),
        config,
        labels,
        queue_order(new),
    ]


def _updated(
    old: ChatState, new: ChatState, side: SideRows, compare_journal: bool
) -> tuple[str, Arguments]:
    arguments: Arguments = [
        new.revision,
        new.head_sequence,
        new.next_position,
        new.updated_at,
        hot_state(new),
    ]
    if is_step(old, new):
        chat = _STEP
    else:
        chat = _CHANGE
        arguments += (
            new.owner_id,
            new.status.value,
            new.archived,
            deleted_at(new),
            due_at(new),
            queue_order(new),
        )
        # A heartbeat may have moved the lease since: who keeps it does not write it.
        if not keeps_lease(old, new):
            chat += _LEASE
            lease = new.lease
            arguments += (
                new.epoch,
                None if lease is None else lease.worker_id,
                None if lease is None else lease.expires_at,
            )
        if side.config is not None:
            chat += _CONFIG
            arguments += side.config
    chat += _COMPARE
    arguments += (old.id, old.revision, old.epoch)
    if compare_journal:
        chat += _COMPARE_JOURNAL
        arguments.append(old.journal)
    return chat + _RETURNING, arguments


def _insert(table: str, rows: Sequence[Row], names: list[str], arguments: Arguments) -> None:
    if len(rows) <= ROWS_MAX:
        names.append(f"{len(rows)} {table}")
        for row in rows:
            arguments += row
    else:
        names.append(f"many {table}")
        arguments += zip(*rows, strict=True)


def _beside(side: SideRows, names: list[str], arguments: Arguments) -> Sequence[ToolResult]:
    """Write the rows next to the chat; return the results that are left for the next piece."""
    left = side.outcomes
    if side.enqueued:
        names.append("enqueued")
        arguments += zip(*side.enqueued, strict=True)
    if side.dequeued:
        names.append("dequeued")
        arguments.append(side.dequeued)
    if side.outcomes:
        names.append("outcomes")
        rows = first_piece(left, outcome_rows)
        arguments += zip(*rows, strict=True)
        left = left[len(rows) :]
    if side.closed:
        names.append("closed")
        arguments.append(side.closed)
    return left


def _recorded(old: ChatState | None, transition: Transition, record: Record) -> Sequence[Any]:
    request = record.request
    return (
        record.key,
        transition.state.head_sequence,
        record.now,
        None if request is None else request.body_hash,
        None if request is None else encode_response(old, transition),
    )
