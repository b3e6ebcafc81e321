"""What only the embedded store promises: one server on a file, few statements, used indexes."""

import asyncio
import re
import sqlite3
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from chatd_server.domain.chat import ChatConfig, ClientTool, Status
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import spans
from chatd_server.store.shared.errors import DatabaseInUse, NotADatabase
from chatd_server.store.sqlite import files, statements
from chatd_server.store.sqlite.store import SqliteStore
from tests.store.conftest import SqliteStores
from tests.store.desk import LEASE_SECONDS, W1, W2, Desk
from tests.store.trace import Trace


@pytest.fixture
async def store(sqlite_stores: SqliteStores) -> SqliteStore:
    """Give the embedded store on a fresh file."""
    return await sqlite_stores.open()


@pytest.fixture
def desk(sqlite_stores: SqliteStores, store: SqliteStore) -> Desk:
    """Give the verbs of the exam."""
    return Desk(store, sqlite_stores.clock)


# --- one server ----------------------------------------------------------------------------


async def test_a_second_server_on_the_file_is_refused_and_told_why(
    sqlite_stores: SqliteStores, store: SqliteStore, desk: Desk
) -> None:
    """The message names the process that holds the file; the first server goes on."""
    with pytest.raises(DatabaseInUse, match=r"another server \(process \d+\).*stop it"):
        await sqlite_stores.open()

    await desk.create()
    await sqlite_stores.close(store)
    await sqlite_stores.open()


async def test_nobody_else_can_read_the_files(sqlite_stores: SqliteStores) -> None:
    """The folder may be open to others; what is said in chats is not."""
    await sqlite_stores.open()
    folder = sqlite_stores.path.parent
    modes = {it.name: S_IMODE(it.stat().st_mode) for it in folder.glob("chatd.db*")}
    assert {"chatd.db", "chatd.db-wal", "chatd.db.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes


async def test_a_file_that_cannot_be_opened_leaves_no_lock(
    sqlite_stores: SqliteStores,
) -> None:
    """After a failed start, the next start checks the file again."""
    sqlite_stores.path.write_bytes(b"this is no database" * 100)
    with pytest.raises(NotADatabase, match="restore"):
        await sqlite_stores.open()

    sqlite_stores.path.unlink()
    await sqlite_stores.open()


async def test_every_lease_is_void_at_start_and_its_chat_goes_on_at_once(
    sqlite_stores: SqliteStores, store: SqliteStore, desk: Desk
) -> None:
    """Nobody else can hold a chat of an embedded store, so nobody waits for a lease to expire."""
    running = await desk.start(await desk.running())
    stopping = await desk.running()
    await desk.interrupt(stopping.id)
    await store.heartbeat(W1, [(running.id, running.epoch)], 10 * LEASE_SECONDS)

    again = await sqlite_stores.reopen(store)

    one, other = await again.load(running.id), await again.load(stopping.id)
    assert (one.status, one.lease, one.rescues) == (Status.PENDING, None, 1)
    assert (other.status, other.lease) == (Status.INTERRUPTING, None)
    taken = (await again.acquire(W2, 5, LEASE_SECONDS)).chats
    assert {acquired.state.id for acquired in taken} == {running.id, stopping.id}
    assert sqlite_stores.observer.noted(spans.ChatsRescuedAtStart)


async def test_a_closed_store_takes_nothing_more(
    sqlite_stores: SqliteStores, store: SqliteStore, desk: Desk
) -> None:
    """What was queued before the close is written; what comes after is refused."""
    chat_id = await desk.create()
    sending = asyncio.gather(*(desk.send(chat_id, "x") for _ in range(5)))
    await asyncio.sleep(0)  # noqa: TID251  one turn of the loop: each task submits its job
    await sqlite_stores.close(store)

    assert len(await sending) == 5
    with pytest.raises(DatabaseUnavailable):
        await desk.send(chat_id, "x")
    with pytest.raises(DatabaseUnavailable):
        await store.load(chat_id)
    assert not await store.is_reachable()


# --- cost ----------------------------------------------------------------------------------


async def test_a_step_of_a_running_turn_is_four_statements_besides_the_group(
    store: SqliteStore, desk: Desk
) -> None:
    """Chat, message, event, command: nothing is read first, and a miss has nothing to undo."""
    started = await desk.start(await desk.running())
    trace = Trace(store)

    await desk.answer(started, "x" * 2048)

    assert trace.statements == [
        "BEGIN IMMEDIATE",
        "UPDATE chats SET",
        "INSERT INTO commands",
        "INSERT INTO messages",
        "INSERT INTO events",
        "COMMIT",
    ]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("WORK", "chats_work"),
        ("EXPIRED_LEASES", "chats_leases"),
        ("VOID_LEASES", "chats_leases"),
        ("EXPIRED_ACTIONS", "chats_deadlines"),
        ("NEXT_RETRY", "chats_work"),
        ("NEXT_DEADLINE", "chats_deadlines"),
        ("NEXT_EXPIRY", "chats_leases"),
        ("BEAT", "(uuid=?)"),
        ("LOAD", "(uuid=?)"),
        ("owned", "chats_owned"),
        ("CHILDREN", "chats_children"),
        ("ACTIONS", "chats_actions"),
        ("EVENTS", "PRIMARY KEY"),
        ("MESSAGES", "(chat=? AND position>"),
        ("MESSAGES_AS_OF", "(chat=? AND position>"),
        ("MESSAGE_BY_ID", "(chat=? AND uuid=?)"),
        ("FIND_COMMAND", "(key=?)"),
        ("FIND_KEY", "(key_hash=?)"),
    ],
)
async def test_each_query_uses_the_index_that_was_made_for_it(
    store: SqliteStore, query: str, index: str
) -> None:
    """The schema names a query for each index; SQLite agrees, and sorts nothing."""
    sql = statements.owned(0, 0) if query == "owned" else getattr(statements, query)
    named = dict.fromkeys(re.findall(r":(\w+)", sql), "[]")
    connection = store._ledger.connection
    plan = connection.execute(
        f"EXPLAIN QUERY PLAN {sql}", named or ("[]",) * sql.count("?")
    ).fetchall()

    steps = [step[3] for step in plan]
    assert any(index in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


def test_a_writer_flushes_each_commit_to_the_disk(tmp_path: Path) -> None:
    """Acknowledged means on the disk: the log is written ahead and every commit is synced."""
    connection = files.writing(tmp_path / "x.db")

    def pragma(name: str) -> Any:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    connection.close()


async def test_a_reader_cannot_write(store: SqliteStore) -> None:
    """Only one thread writes; a read that tried to would be an error, not a lock."""

    def write(cursor: sqlite3.Cursor) -> None:
        cursor.execute("DELETE FROM chats")

    with pytest.raises(DatabaseUnavailable, match="cannot be written"):
        await store.readers.read(write)


async def test_transactions_are_numbered_upwards_also_after_a_restart(
    sqlite_stores: SqliteStores, store: SqliteStore, desk: Desk
) -> None:
    """Readers of many chats follow these numbers: none repeats, whatever the clock does."""
    chat_id = await desk.create()
    for _ in range(5):
        await desk.send(chat_id, "x")
    await sqlite_stores.close(store)
    again = await sqlite_stores.open()
    await Desk(again, sqlite_stores.clock).edit(chat_id, 1, "y")

    rows = await again.readers.read(
        lambda cursor: cursor.execute(
            "SELECT txid, sequence FROM events ORDER BY sequence"
        ).fetchall()
    )

    txids = [txid for txid, _ in rows]
    assert txids == sorted(txids)
    assert len(set(txids)) == 7


async def test_a_step_does_not_write_the_configuration_again(
    sqlite_stores: SqliteStores, desk: Desk
) -> None:
    """A chat with large tools pays for them when they change, not with each step."""
    tools = (ClientTool("ls", input_schema="s" * 200_000),)
    await desk.create(config=ChatConfig(tools=tools))
    (acquired,) = await desk.acquire()
    state = await desk.answered(acquired.state)
    log = sqlite_stores.path.with_name("chatd.db-wal")
    before = log.stat().st_size

    for _ in range(5):
        state = await desk.answered(state)

    assert state.config.tools == tools
    # Ten commits of a few pages each; one of them with the tools would be more than half of it.
    assert log.stat().st_size - before < 400_000
