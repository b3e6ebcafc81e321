"""Records the product's commits in one turn, for a floor that writes the same.

A real server answers one message. Triggers in its database record each state of the chat's row and
each row of the tool journal; everything else that a commit wrote is in the tables.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec

from bench.context import loaded
from bench.directive import Directive
from bench.floors.rows import Recording, Written, log_between, written
from bench.load import Task
from bench.servers import MODEL, RUNS_MAX, Server, all_sides, durable, product

DATABASE = "chatd.db"
_TRIGGERS = """
CREATE TABLE bench_chats AS SELECT * FROM chats WHERE 0;
CREATE TABLE bench_journal (number INTEGER, call_id TEXT, is_start BOOLEAN);
CREATE TRIGGER bench_made AFTER INSERT ON chats
    BEGIN INSERT INTO bench_chats SELECT * FROM chats WHERE id = NEW.id; END;
CREATE TRIGGER bench_changed AFTER UPDATE OF revision ON chats
    BEGIN INSERT INTO bench_chats SELECT * FROM chats WHERE id = NEW.id; END;
CREATE TRIGGER bench_started AFTER INSERT ON tool_journal
    BEGIN INSERT INTO bench_journal SELECT count(*), NEW.call_id, 1 FROM bench_chats; END;
CREATE TRIGGER bench_closed AFTER DELETE ON tool_journal
    BEGIN INSERT INTO bench_journal SELECT count(*), OLD.call_id, 0 FROM bench_chats; END;
"""


class OtherCommits(Exception):
    """The product's commits no longer match the floor's: change one of them."""


async def recorded(folder: Path, vendor: str, directive: Directive) -> Path:
    """Let a separate server answer one message, and write its commits to a file.

    `directive` has no steps or one step.
    """
    home = folder / "recorded"
    home.mkdir()
    async with product(home, vendor) as server:
        database = home / "home" / DATABASE
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(_TRIGGERS)
        task = Task(
            kind="stream",
            address=server.address,
            key=server.key,
            model=MODEL,
            text=str(directive),
            tokens=1 if directive.steps else directive.tokens,
        )
        await loaded(server, task)
    with closing(sqlite3.connect(database)) as connection:
        found = _read(connection, directive.steps)
    file = folder / "recording"
    file.write_bytes(msgspec.msgpack.encode(found))
    return file


@asynccontextmanager
async def four_sides(
    folder: Path, vendor: str, directive: Directive, runs_max: int = RUNS_MAX
) -> AsyncIterator[list[Server]]:
    """Run all sides and a durable floor that makes the product's commits for a directive."""
    recording = await recorded(folder, vendor, directive)
    async with (
        all_sides(folder, vendor, runs_max) as three,
        durable(folder, vendor, recording) as fourth,
    ):
        yield [*three[:2], fourth, *three[2:]]


def _read(connection: sqlite3.Connection, steps: int) -> Recording:
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM bench_chats ORDER BY rowid")]
    # The first row is from CreateChat, not from a step of the turn.
    made, *changed = rows
    connection.row_factory = None
    commits = [
        _commit(connection, before, after, number)
        for number, (before, after) in enumerate(zip(rows, changed, strict=False), start=2)
    ]
    if len(commits) != 3 + 2 * steps:
        raise OtherCommits(f"a turn with {steps} steps is {len(commits)} commits")
    send, begin, *step, last = commits
    schema = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'bench_%'"
    ).fetchall()
    chat = {name: value for name, value in made.items() if name != "id"}
    return Recording([sql for (sql,) in schema], chat, send, begin, last, *step)


def _commit(
    connection: sqlite3.Connection, before: dict[str, Any], after: dict[str, Any], number: int
) -> Written:
    """Return the rows of commit `number`, which left the chat's row like this."""
    changed = {name: value for name, value in after.items() if value != before[name]}
    journal: Sequence[tuple[str, bool]] = connection.execute(
        "SELECT call_id, is_start FROM bench_journal WHERE number = ? ORDER BY rowid", (number,)
    ).fetchall()
    return written(
        # Every commit writes its state, even an unchanged one.
        {**changed, "state": after["state"]},
        *log_between(connection, after["id"], before["head_sequence"], after["head_sequence"]),
        started=[call_id for call_id, is_start in journal if is_start],
        closed=sum(not is_start for _, is_start in journal),
    )
