"""The minimum cost of a commit: the database drivers alone."""

import asyncio
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from bench.floors.rows import FloorChat, Written, fresh_id

MESSAGE = """
INSERT INTO messages (chat, position, uuid, role, sequence, content_version, content)
VALUES (?, ?, ?, ?, ?, 1, ?)
"""
EVENT = """
INSERT INTO events (chat, txid, sequence, kind, at, position, content_version, payload)
VALUES (?, ?, ?, ?, ?, ?, 1, ?)
"""
COMMAND = """
INSERT INTO commands (key, chat, sequence, created_at, body_hash, response)
VALUES (?, ?, ?, ?, NULL, NULL)
"""
START_CALL = """
INSERT INTO tool_journal (chat, call_id, started_at, content_version) VALUES (?, ?, ?, 1)
"""
CLOSE_CALL = "DELETE FROM tool_journal WHERE chat = ? AND call_id = ?"
GROUP_MAX = 256


class Missed(Exception):
    """A compare-and-set missed: the floor itself is wrong."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection with the product's durability settings."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def held_in(connection: sqlite3.Connection) -> list[FloorChat]:
    """Return the chats that a worker holds."""
    query = f"SELECT {FloorChat.COLUMNS} FROM chats WHERE worker_id IS NOT NULL"  # noqa: S608  a constant
    return [FloorChat(row) for row in connection.execute(query).fetchall()]


def write_commit(cursor: sqlite3.Cursor, chat: FloorChat, rows: Written) -> None:
    """Write the rows of one commit, within a transaction."""
    now = time.time_ns() // 1000
    sequence, position, epoch = chat.sequence, chat.position, chat.epoch
    head, following = sequence + len(rows.events), position + len(rows.messages)
    execute = cursor.execute
    granted = (epoch + 1,) if rows.is_acquisition else ()
    compared = (chat.row_id, chat.revision, epoch)
    execute(
        rows.update, (chat.revision + 1, head, following, now, *granted, *rows.values, *compared)
    )
    if cursor.rowcount != 1:
        raise Missed
    for role, content in rows.messages:
        sequence += 1
        execute(MESSAGE, (chat.row_id, position, fresh_id(), role, sequence, content))
        position += 1
    sequence, position = chat.sequence, chat.position
    for kind, payload in rows.events:
        sequence += 1
        at = None if payload is not None else position
        execute(EVENT, (chat.row_id, now, sequence, kind, now, at, payload))
        position += payload is None
    execute(COMMAND, (secrets.token_bytes(16), chat.row_id, head, now))
    if rows.started or rows.closed:
        _write_journal(cursor, chat, rows, now)
    chat.revision += 1
    chat.epoch += len(granted)
    chat.sequence, chat.position = head, following


def _write_journal(cursor: sqlite3.Cursor, chat: FloorChat, rows: Written, now: int) -> None:
    for _ in range(rows.closed):
        cursor.execute(CLOSE_CALL, (chat.row_id, chat.open.pop(0)))
    for call_id in rows.started:
        chat.open.append(call_id)
        cursor.execute(START_CALL, (chat.row_id, call_id, now))


class SqliteFloor:
    """One thread that writes all waiting commits as one transaction."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def held(self) -> list[FloorChat]:
        """Return the chats that a worker holds."""
        return held_in(self._connection)

    async def write(self, chat: FloorChat, rows: Written) -> None:
        """Write one commit; return when it is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((chat, rows, future))
        await future

    async def close(self) -> None:
        """Stop the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _run(self) -> None:
        cursor = self._connection.cursor()
        while (first := self._queue.get()) is not None:
            group = [first]
            try:
                while len(group) < GROUP_MAX:
                    following = self._queue.get_nowait()
                    assert following is not None, "closed while a write waits"
                    group.append(following)
            except queue.Empty:
                pass
            cursor.execute("BEGIN IMMEDIATE")
            for chat, rows, _ in group:
                write_commit(cursor, chat, rows)
            cursor.execute("COMMIT")
            self._loop.call_soon_threadsafe(_done, [future for _, _, future in group])


_Item: TypeAlias = tuple[FloorChat, Written, asyncio.Future[None]]


def _done(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)


_STATEMENT = """
WITH written AS (
    UPDATE chats SET revision = $1, head_sequence = $2, next_position = $3, updated_at = $4,
        content_version = 1, state = $5
    WHERE id = $6 AND revision = $7 AND epoch = $8 RETURNING id
), write_messages AS (
    INSERT INTO messages (chat, position, uuid, role, sequence, content_version, content)
    SELECT w.id, m.*
    FROM written AS w, unnest($9::bigint[], $10::text[], $11::text[], $12::bigint[],
        $13::smallint[], $14::bytea[]) AS m
), write_events AS (
    INSERT INTO events (chat, txid, sequence, kind, at, position, content_version, payload)
    SELECT w.id, pg_current_xact_id()::text::bigint, e.*
    FROM written AS w, unnest($15::bigint[], $16::smallint[], $17::bigint[], $18::bigint[],
        $19::smallint[], $20::bytea[]) AS e
), write_command AS (
    INSERT INTO commands (key, chat, sequence, created_at)
    SELECT $21::bytea, w.id, $2, $4 FROM written AS w
)
SELECT id FROM written
"""


class PostgresFloor:
    """One statement per answer, on connections pinned to their chats."""

    def __init__(self, connections: Sequence[Any], rows: Written) -> None:
        self._links = connections
        self._rows = rows

    @classmethod
    async def open(cls, url: str, rows: Written, connections: int) -> "PostgresFloor":
        links = [await asyncpg.connect(url) for _ in range(connections)]
        return cls(links, rows)

    async def chats(self) -> list[FloorChat]:
        found = await self._links[0].fetch(f"SELECT {FloorChat.COLUMNS} FROM chats ORDER BY id")  # noqa: S608  a constant
        return [FloorChat(tuple(row)) for row in found]

    def writer(self, number: int) -> Callable[[FloorChat], Awaitable[None]]:
        """Return the write function of one connection."""
        fetchval = self._links[number].fetchval
        rows = self._rows
        count, events = len(rows.messages), len(rows.events)
        versions, event_versions = [1] * count, [1] * events
        roles = [role for role, _ in rows.messages]
        contents = [content for _, content in rows.messages]
        kinds = [kind for kind, _ in rows.events]
        payloads = [payload for _, payload in rows.events]

        async def write(chat: FloorChat) -> None:
            now = time.time_ns() // 1000
            head, following = chat.sequence + events, chat.position + count
            sequences = list(range(chat.sequence + 1, head + 1))
            positions = list(range(chat.position, following))
            referred = iter(positions)
            found = await fetchval(
                _STATEMENT,
                *(chat.revision + 1, head, following, now, rows.state),
                *(chat.row_id, chat.revision, chat.epoch),
                *(positions, [fresh_id() for _ in positions], roles, sequences[:count]),
                *(versions, contents),
                *(sequences, kinds, [now] * events),
                [next(referred) if payload is None else None for payload in payloads],
                *(event_versions, payloads),
                secrets.token_bytes(16),
            )
            if found is None:
                raise Missed
            chat.revision += 1
            chat.sequence, chat.position = head, following

        return write

    async def close(self) -> None:
        for link in self._links:
            await link.close()
