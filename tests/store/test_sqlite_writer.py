"""What only the embedded store promises: groups, a full disk, an unknown commit, one server."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
import pytest

from chatd_server.domain.chat import AttemptKind
from chatd_server.domain.message import Executor
from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost
from chatd_server.observe import spans
from chatd_server.ports.store import Applied
from chatd_server.store.sqlite.store import SqliteStore
from chatd_server.store.sqlite.writer import Job
from tests.store.conftest import SqliteStores
from tests.store.desk import W2, Desk, assert_gap_free
from tests.store.trace import Trace


@pytest.fixture
async def store(sqlite_stores: SqliteStores) -> SqliteStore:
    """Give the embedded store on a fresh file."""
    return await sqlite_stores.open()


@pytest.fixture
def desk(sqlite_stores: SqliteStores, store: SqliteStore) -> Desk:
    """Give the verbs of the exam."""
    return Desk(store, sqlite_stores.clock)


class _Gate(Job[None], eq=False):
    """Holds the writer's thread, so that what is submitted meanwhile becomes one group."""

    entered: threading.Event = msgspec.field(default_factory=threading.Event)
    opened: threading.Event = msgspec.field(default_factory=threading.Event)

    def run(self, again: bool) -> None:
        """Wait for the test."""
        assert not again
        self.entered.set()
        assert self.opened.wait(10)


class _Broken(Job[None], eq=False):
    """A job that the disk fails, each time it runs."""

    error_to_raise: Exception
    runs: list[bool] = msgspec.field(default_factory=list)

    def run(self, again: bool) -> None:
        """Fail."""
        self.runs.append(again)
        raise self.error_to_raise


class _WritesThenRefuses(Job[None], eq=False):
    """A job that learns too late that it may not write."""

    store: SqliteStore

    def run(self, again: bool) -> None:
        """Write, then refuse."""
        assert not again
        self.store._ledger.connection.execute("UPDATE chats SET owner_id = 'nobody'")
        raise LeaseLost


async def _group(
    store: SqliteStore, *writes: Coroutine[Any, Any, Any]
) -> list[Applied | BaseException]:
    """Commit writes in one group, in this order; return what each answered or raised."""
    gate = _Gate()
    held = store.writer.submit(gate)
    await asyncio.to_thread(gate.entered.wait)
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)  # noqa: TID251  one turn of the loop: each task submits its job
    gate.opened.set()
    await held
    outcomes: list[Applied | BaseException] = await asyncio.gather(*tasks, return_exceptions=True)
    return outcomes


async def _submit(store: SqliteStore, job: Job[None]) -> None:
    await store.writer.submit(job)


# --- groups --------------------------------------------------------------------------------


async def test_what_waits_is_committed_as_one_group(store: SqliteStore, desk: Desk) -> None:
    """Four writers wait for one commit. A command refuses before it writes: no savepoint."""
    chats = [await desk.create() for _ in range(4)]
    trace = Trace(store)

    await _group(store, *(desk.send(chat_id, "x") for chat_id in chats))

    # One of each is the gate's.
    assert trace.count("COMMIT") == 2
    assert trace.count("SAVEPOINT") == 1


async def test_the_holder_ends_its_turn_without_a_look_at_the_chat(
    store: SqliteStore, desk: Desk
) -> None:
    """What it knows is compared, and that is enough."""
    state = await desk.answered(await desk.running())
    trace = Trace(store)

    await desk.finish(state)

    assert trace.count("SELECT") == 0
    assert trace.count("UPDATE chats") == 1


async def test_the_holder_writes_a_chain_without_a_look_at_the_chat(
    store: SqliteStore, desk: Desk
) -> None:
    """Also when outcomes were recorded since: whatever follows the results of a batch."""
    for number in range(3):
        state = await desk.start(await desk.running())
        clients = [desk.call("c", Executor.CLIENT)] if number == 1 else []
        answer = desk.answer_command(state, calls=[desk.call("a"), desk.call("b"), *clients])
        start = desk.start_command(state, AttemptKind.TOOLS)
        trace = Trace(store)
        state = (await desk.chain(state, answer, start, started=["a", "b"])).state
        await desk.finish_call(state, "a")
        last = (
            desk.start_command(state, AttemptKind.MODEL),
            desk.action_command(state),
            desk.finish_command(state),
        )[number]

        await desk.chain(
            state, desk.results_command(state, desk.result("a"), desk.result("b")), last
        )

        assert trace.count("SELECT") == 0
        assert trace.count("UPDATE chats") == 3


async def test_a_missed_compare_in_a_group_undoes_its_member_only(
    store: SqliteStore, desk: Desk
) -> None:
    """A worker that lost its chat writes nothing; the others of its group are committed."""
    lost = await desk.start(await desk.running())
    await desk.edit(lost.id, 1, "other words")
    await desk.acquire(W2)
    fine = await desk.start(await desk.running())
    chat_id = await desk.create()
    before = await store.load(lost.id)
    trace = Trace(store)

    outcomes = await _group(
        store,
        desk.send(chat_id, "first"),
        desk.answer(lost),
        desk.answer(fine),
        desk.send(chat_id, "last"),
    )

    assert [type(outcome) for outcome in outcomes] == [Applied, LeaseLost, Applied, Applied]
    assert trace.count("ROLLBACK") == 0
    assert trace.count("COMMIT") == 2
    assert await store.load(lost.id) == before
    assert len((await store.load(chat_id)).queue) == 2
    assert await desk.texts(fine.id) == ["hello", "answer"]
    assert_gap_free(await desk.log(chat_id), await store.load(chat_id))


async def test_members_of_a_group_see_what_those_before_them_wrote(
    store: SqliteStore, desk: Desk
) -> None:
    """Rows that are inserted together are there for a read in the same group."""
    started = await desk.start(await desk.running())

    outcomes = await _group(
        store,
        desk.answer(started),
        desk.answer(started),
        desk.send(started.id, "queued"),
        desk.edit(started.id, 1, "other words"),
    )

    assert [isinstance(one, Applied) and one.replayed for one in outcomes] == [
        False,
        True,
        False,
        False,
    ]
    assert await desk.texts(started.id) == ["other words"]
    assert_gap_free(await desk.log(started.id), await store.load(started.id))


async def test_a_refusal_in_a_group_is_undone_by_its_savepoint(
    store: SqliteStore, desk: Desk
) -> None:
    """Whatever a refused member wrote before its refusal is gone; the others are committed."""
    chat_id = await desk.create("")

    outcomes = await _group(
        store,
        desk.send(chat_id, "first"),
        _submit(store, _WritesThenRefuses(store)),
        desk.send(chat_id, "last"),
    )

    assert [type(outcome) for outcome in outcomes] == [Applied, LeaseLost, Applied]
    state = await store.load(chat_id)
    assert (state.owner_id, state.revision) == ("ann", 3)


async def test_a_stale_state_is_decided_again_on_the_newest(store: SqliteStore, desk: Desk) -> None:
    """A message that was queued meanwhile makes the compare miss; the answer is not lost."""
    started = await desk.start(await desk.running())
    await desk.send(started.id, "queued meanwhile")

    applied = await desk.answer(started)

    assert applied.state == await store.load(started.id)
    assert len(applied.state.queue) == 1
    assert applied.state.revision == started.revision + 2
    assert_gap_free(await desk.log(started.id), applied.state)


async def test_a_full_disk_in_the_middle_of_a_group_of_four(
    sqlite_stores: SqliteStores, store: SqliteStore, desk: Desk
) -> None:
    """The whole group is undone, nobody is told, and each member runs again alone."""
    chats = [await desk.create("") for _ in range(4)]
    await _fill_disk(store, desk)
    told = len(sqlite_stores.heard.commits)

    outcomes = await _group(
        store,
        desk.send(chats[0], "a"),
        desk.send(chats[1], "b" * 3_000_000),
        desk.send(chats[2], "c"),
        desk.send(chats[3], "d"),
    )

    assert [type(outcome) for outcome in outcomes] == [
        Applied,
        DatabaseUnavailable,
        Applied,
        Applied,
    ]
    assert "make room" in str(outcomes[1])
    assert [await desk.texts(chat_id) for chat_id in chats] == [["a"], [], ["c"], ["d"]]
    assert (await store.load(chats[1])).revision == 1
    assert [commit.state.id for commit in sqlite_stores.heard.commits[told:]] == [
        chats[0],
        chats[2],
        chats[3],
    ]
    assert sqlite_stores.observer.noted(spans.DatabaseFailed)


async def test_the_store_serves_again_once_there_is_room(store: SqliteStore, desk: Desk) -> None:
    """A full disk is a passing condition: nothing has to be restarted."""
    chat_id = await desk.create("")
    await _fill_disk(store, desk)
    with pytest.raises(DatabaseUnavailable):
        await desk.send(chat_id, "x" * 3_000_000)
    assert await store.is_reachable()
    assert await desk.texts(chat_id) == []

    store._ledger.connection.execute("PRAGMA max_page_count = 1000000")

    await desk.send(chat_id, "x" * 3_000_000)
    assert len(await desk.texts(chat_id)) == 1


async def _fill_disk(store: SqliteStore, desk: Desk) -> None:
    """Leave room for a few small rows and none for a large one."""
    await desk.create()
    connection = store._ledger.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 100}")


async def test_an_error_of_one_member_is_its_own_when_it_runs_alone(
    store: SqliteStore, desk: Desk
) -> None:
    """A member that fails in a way nobody foresaw fails alone and once more, not its group."""
    chat_id = await desk.create("")
    broken = _Broken(ValueError("a defect"))

    outcomes = await _group(store, desk.send(chat_id, "a"), _submit(store, broken))

    assert [type(outcome) for outcome in outcomes] == [Applied, ValueError]
    assert broken.runs == [False, True]
    assert await desk.texts(chat_id) == ["a"]
    assert (await store.load(chat_id)).revision == 2


# --- unknown outcomes ----------------------------------------------------------------------


class _Forgetful(sqlite3.Connection):
    """A connection that can lose the answer of a commit, made or not."""

    lose: str | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute, and lose an answer if the test wants it."""
        if sql != "COMMIT" or self.lose is None:
            return super().execute(sql, parameters)
        lost, self.lose = self.lose, None
        if lost == "after":
            super().execute(sql)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
async def forgetful(sqlite_stores: SqliteStores) -> AsyncIterator[SqliteStore]:
    """Give a store whose writer's connection is forgetful."""

    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(
            sqlite_stores.path, isolation_level=None, check_same_thread=False, factory=_Forgetful
        )
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA foreign_keys = ON")
        return made

    store = SqliteStore(
        sqlite_stores.path,
        clock=sqlite_stores.clock,
        wake=sqlite_stores.hints,
        observer=sqlite_stores.observer,
        connect=connect,
    )
    store.listen(sqlite_stores.heard)
    yield store
    await store.close()


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_an_unknown_outcome_of_a_commit_is_looked_up(
    sqlite_stores: SqliteStores, forgetful: SqliteStore, lost: str
) -> None:
    """Whether or not the lost commit was made: each command is carried out and told once."""
    desk = Desk(forgetful, sqlite_stores.clock)
    state = await desk.start(await desk.running())
    chat_id = await desk.create()
    told = len(sqlite_stores.heard.commits)
    connection = forgetful._ledger.connection
    assert isinstance(connection, _Forgetful)

    connection.lose = lost
    outcomes = await asyncio.gather(desk.answer(state), desk.send(chat_id, "queued"))

    assert [applied.replayed for applied in outcomes] == [False, False]
    assert outcomes[0].state == await forgetful.load(state.id)
    assert outcomes[1].state == await forgetful.load(chat_id)
    assert len((await forgetful.load(chat_id)).queue) == 1
    assert await desk.texts(state.id) == ["hello", "answer"]
    assert len(sqlite_stores.heard.commits) == told + 2


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_an_unknown_outcome_of_a_chain_is_looked_up_once(
    sqlite_stores: SqliteStores, forgetful: SqliteStore, lost: str
) -> None:
    """All of its commands were committed, or none: they are carried out and told once."""
    desk = Desk(forgetful, sqlite_stores.clock)
    state = await desk.start(await desk.running())
    told = len(sqlite_stores.heard.commits)
    answer = desk.answer_command(state, calls=[desk.call("a")])
    connection = forgetful._ledger.connection
    assert isinstance(connection, _Forgetful)

    connection.lose = lost
    applied = await desk.chain(
        state, answer, desk.start_command(state, AttemptKind.TOOLS), started=["a"]
    )

    assert not applied.replayed
    assert applied.state == await forgetful.load(state.id)
    assert applied.state.revision == state.revision + 2
    assert applied.state.calls[0].started_at is not None
    assert sqlite_stores.heard.commits[told:] == [applied]


async def test_chats_taken_by_a_commit_of_unknown_outcome_are_not_lost(
    sqlite_stores: SqliteStores, forgetful: SqliteStore
) -> None:
    """The worker gets the chats that the commit gave it, and does not wait for their rescue."""
    desk = Desk(forgetful, sqlite_stores.clock)
    chat_id = await desk.create()
    connection = forgetful._ledger.connection
    assert isinstance(connection, _Forgetful)

    connection.lose = "after"
    (acquired,) = await desk.acquire()

    assert acquired.state == await forgetful.load(chat_id)
