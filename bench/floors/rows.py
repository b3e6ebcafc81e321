"""The rows that one commit writes, read back from a database that the product wrote.

So a floor and the ORM write exactly what the product writes, value for value, without decisions or
encoding.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

COUNTED = ("revision", "head_sequence", "next_position", "updated_at", "epoch")
"""Columns of a chat that are incremented from their current value."""
Values = Mapping[str, Any]


class Written(msgspec.Struct, frozen=True):
    """The rows of one commit; positions and sequences are relative to the chat's own."""

    #: The statement that updates the chat's row, and the values it sets besides the counters.
    update: str
    values: tuple[Any, ...]
    #: (role, content), in order.
    messages: tuple[tuple[str, bytes], ...] = ()
    #: (kind, payload), in order; events without a payload refer to the messages.
    events: tuple[tuple[int, bytes | None], ...] = ()
    #: Whether it grants the lease.
    is_acquisition: bool = False
    #: Rows of the tool journal: ids of started calls, and how many open ones ended.
    started: tuple[str, ...] = ()
    closed: int = 0

    @property
    def state(self) -> bytes:
        """The value of `chats.state`, the last column that every commit sets."""
        state: bytes = self.values[-1]
        return state


class Recording(msgspec.Struct, frozen=True):
    """The schema, a new chat's row, and the commits of a turn with one step or none."""

    #: Statements that create the tables and the indexes.
    schema: list[str]
    #: A new chat: columns and values.
    chat: dict[str, Any]
    #: SendMessage; Acquire + StartAttempt; CommitAnswer + FinishTurn.
    send: Written
    begin: Written
    last: Written
    #: CommitAnswer + StartAttempt + the started call; CommitResults + StartAttempt.
    answer: Written | None = None
    results: Written | None = None


def written(
    changed: Values,
    messages: Iterable[tuple[str, bytes]] = (),
    events: Iterable[tuple[int, bytes | None]] = (),
    *,
    started: Iterable[str] = (),
    closed: int = 0,
) -> Written:
    """Return the rows of a commit that changed these columns of the chat."""
    names = [name for name in changed if name not in (*COUNTED, "state")]
    setters = "".join(f", {name} = ?" for name in (*names, "state"))
    update = (
        f"UPDATE chats SET revision = ?, head_sequence = ?, next_position = ?, updated_at = ?,"  # noqa: S608  columns
        f" epoch = ?{setters} WHERE id = ? AND revision = ? AND epoch = ?"
    )
    is_acquisition = "epoch" in changed
    if not is_acquisition:
        update = update.replace(" epoch = ?,", "", 1)
    return Written(
        update,
        (*(changed[name] for name in names), changed["state"]),
        tuple(messages),
        tuple(events),
        is_acquisition,
        tuple(started),
        closed,
    )


def start_of(rows: Written) -> Written:
    """Return the rows of the start of an attempt: the chat, and a command's row."""
    return written({"state": rows.state})


def written_by_product(path: Path) -> Written:
    """Return the rows of the newest commit in a database."""
    with closing(sqlite3.connect(path)) as connection:
        newest = "SELECT chat, sequence FROM commands ORDER BY rowid DESC LIMIT 1"
        chat, head = connection.execute(newest).fetchone()
        txid = "SELECT txid FROM events WHERE chat = ? AND sequence = ?"
        (group,) = connection.execute(txid, (chat, head)).fetchone()
        first = "SELECT min(sequence) FROM events WHERE chat = ? AND txid = ?"
        (sequence,) = connection.execute(first, (chat, group)).fetchone()
        (state,) = connection.execute("SELECT state FROM chats WHERE id = ?", (chat,)).fetchone()
        return written({"state": state}, *log_between(connection, chat, sequence - 1, head))


def log_between(
    connection: sqlite3.Connection, chat: int, after: int, head: int
) -> tuple[Sequence[tuple[str, bytes]], Sequence[tuple[int, bytes | None]]]:
    """Return the messages and events of a chat that were logged between two sequences."""
    messages = connection.execute(
        "SELECT role, content FROM messages WHERE chat = ? AND sequence > ? AND sequence <= ?"
        " ORDER BY position",
        (chat, after, head),
    ).fetchall()
    events = connection.execute(
        "SELECT kind, payload FROM events WHERE chat = ? AND sequence > ? AND sequence <= ?"
        " ORDER BY sequence",
        (chat, after, head),
    ).fetchall()
    return messages, events


class FloorChat:
    """The values of a chat that a writer needs for the next rows."""

    __slots__ = ("epoch", "open", "position", "revision", "row_id", "sequence", "uuid")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.row_id, self.uuid, self.revision, self.epoch, self.sequence, self.position = row
        #: Calls in the tool journal.
        self.open: list[str] = []

    COLUMNS = "id, uuid, revision, epoch, head_sequence, next_position"


def fresh_id() -> str:
    """Return an id as long as a UUID; generating it is not part of a write."""
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
