"""The rows that one CommitAnswer writes, read back from a database that the product wrote.

So a floor and the ORM write exactly what the product writes, value for value, without deciding or
encoding anything.
"""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec


class Written(msgspec.Struct, frozen=True):
    """What one commit wrote; positions and sequences count from the chat's own."""

    state: bytes
    #: (role, content), in order.
    messages: tuple[tuple[str, bytes], ...]
    #: (kind, payload), in order; the first so many refer to the messages.
    events: tuple[tuple[int, bytes | None], ...]


def written_by_product(path: Path) -> Written:
    """Return what the newest commit of a database wrote."""
    with closing(sqlite3.connect(path)) as connection:
        newest = "SELECT chat, sequence FROM commands ORDER BY rowid DESC LIMIT 1"
        chat, head = connection.execute(newest).fetchone()
        txid = "SELECT txid FROM events WHERE chat = ? AND sequence = ?"
        (group,) = connection.execute(txid, (chat, head)).fetchone()
        events = connection.execute(
            "SELECT kind, payload, position FROM events WHERE chat = ? AND txid = ?"
            " ORDER BY sequence",
            (chat, group),
        ).fetchall()
        positions = [position for _, _, position in events if position is not None]
        messages = connection.execute(
            f"SELECT role, content FROM messages WHERE chat = ? AND position >= {min(positions)}"  # noqa: S608  a number
            " ORDER BY position",
            (chat,),
        ).fetchall()
        (state,) = connection.execute("SELECT state FROM chats WHERE id = ?", (chat,)).fetchone()
    return Written(
        state,
        tuple((role, content) for role, content in messages),
        tuple((kind, payload) for kind, payload, _ in events),
    )


class FloorChat:
    """What a writer has to know of a chat to write the next rows."""

    __slots__ = ("epoch", "position", "revision", "row_id", "sequence", "uuid")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.row_id, self.uuid, self.revision, self.epoch, self.sequence, self.position = row

    COLUMNS = "id, uuid, revision, epoch, head_sequence, next_position"


def fresh_id() -> str:
    """Return an id of the length of a UUID; drawing it is no part of writing."""
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
