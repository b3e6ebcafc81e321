"""What only the shared store promises: lost answers, lost connections, and several replicas."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest

from chatd_server.clock import RealClock
from chatd_server.domain.chat import AttemptKind, Status
from chatd_server.domain.command import SetTitle
from chatd_server.domain.ids import MICROSECONDS, ChatId, Instant, WorkerId
from chatd_server.domain.message import Text
from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost, RequestIdReused
from chatd_server.observe import NullObserver, Span
from chatd_server.ports import RequestKey
from chatd_server.store.errors import SchemaOutdated, SchemaTooNew
from chatd_server.store.migrate import SCHEMA, migrate
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.wake import LocalWake
from tests.kit.clock import ManualClock
from tests.store.conftest import HeardCommits, PostgresStores
from tests.store.desk import ANN, W1, W2, Desk, assert_gap_free
from tests.store.proxy import Proxy


@pytest.fixture
async def replicas(migrated_url: str) -> AsyncIterator[PostgresStores]:
    """Open stores on one database, as replicas do."""
    stores = PostgresStores(migrated_url)
    yield stores
    await stores.close_all()


@pytest.fixture
async def store(replicas: PostgresStores) -> PostgresStore:
    """Give one of them."""
    return await replicas.open()


@pytest.fixture
def desk(replicas: PostgresStores, store: PostgresStore) -> Desk:
    """Give its verbs."""
    return Desk(store, replicas.clock)


@pytest.fixture
async def stranger(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection that is not chatd's."""
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


async def cut_off(stranger: asyncpg.Connection) -> int:
    """End every connection of chatd to this database; return how many."""
    ended = await stranger.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'chatd' AND datname = current_database()"
    )
    return len(ended)


async def until_blocked(stranger: asyncpg.Connection, count: int = 1) -> None:
    """Wait until so many of chatd's statements wait for a lock."""
    while (
        await stranger.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chatd'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        < count
    ):
        pass


@asynccontextmanager
async def locked(url: str, chat_id: ChatId) -> AsyncIterator[None]:
    """Hold a chat's row, so that whatever writes it waits."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM chats WHERE uuid = $1 FOR UPDATE", chat_id)
            yield
    finally:
        await connection.close()


class LosesAnswers:
    """A connection that is cut after its next write was committed, before the answer is read."""

    def __init__(self, link: asyncpg.Connection) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write, and lose the answer."""
        await self._link.fetchval(statement, *arguments)
        self._link.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")


class LosesCommits(LosesAnswers):
    """A connection that is cut after its next transaction was committed."""

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write, inside the transaction."""
        return await self._link.fetchval(statement, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit, and lose the answer."""
        async with self._link.transaction():
            yield
        self._link.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")


def lose_the_next_answer(store: PostgresStore) -> None:
    """Let the connection that is used next lose an answer."""
    store.writers._free[-1] = LosesAnswers(store.writers._free[-1])


def statements_of(store: PostgresStore) -> Counter[str]:
    """Count the statements that a store sends from now on."""
    sent: Counter[str] = Counter()

    def count(record: Any) -> None:
        # The driver asks once for each connection what the types of our arrays are.
        if "typeinfo_tree" not in record.query and "current_setting" not in record.query:
            sent[record.query] += 1

    for link in (*store.writers._free, *store.readers._free):
        link.add_query_logger(count)
    return sent


# --- lost answers, lost connections --------------------------------------------------------


async def test_a_commit_whose_answer_is_lost_is_done_once(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """The command is looked up on another connection: recorded means done, with its events."""
    state = await desk.start(await desk.running())
    lose_the_next_answer(store)

    applied = await desk.answer(state)

    assert not applied.replayed
    assert [type(logged.event).__name__ for logged in applied.events] == ["MessageCommitted"]
    assert applied.state == await store.load(state.id)
    assert await desk.texts(state.id) == ["hello", "answer"]
    assert replicas.heard.commits[-1] == applied
    assert len(replicas.heard.commits) == applied.state.revision
    assert_gap_free(await desk.log(state.id), applied.state)


async def test_a_message_whose_answer_is_lost_is_sent_once(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """The same holds for a client's command, which loads before it writes."""
    chat_id = await desk.create("")
    lose_the_next_answer(store)

    applied = await desk.send(chat_id, "hello")

    assert not applied.replayed
    assert await desk.texts(chat_id) == ["hello"]
    assert [commit.state.revision for commit in replicas.heard.commits] == [1, 2]


async def test_a_chat_whose_answer_is_lost_is_made_once(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """The same holds for a new chat."""
    lose_the_next_answer(store)

    chat_id = await desk.create("hello")

    assert (await store.load(chat_id)).revision == 1
    assert len(replicas.heard.commits) == 1


async def test_chats_whose_acquisition_was_not_answered_are_the_workers(
    store: PostgresStore, desk: Desk
) -> None:
    """A lost answer leaves no chat behind that nobody runs."""
    chat_ids = {await desk.create(f"chat {number}") for number in range(3)}
    store.writers._free[-1] = LosesCommits(store.writers._free[-1])

    acquired = await desk.acquire(slots=3)

    assert {chat.state.id for chat in acquired} == chat_ids
    assert all(chat.state.status is Status.RUNNING for chat in acquired)
    assert [len(chat.messages) for chat in acquired] == [1, 1, 1]


async def test_an_acquisition_that_was_cut_before_its_commit_takes_nothing(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """It is not known to have failed until the database says so; then the chats are free."""
    chat_id = await desk.create()
    lose_the_next_answer(store)

    assert await desk.acquire() == []

    assert (await store.load(chat_id)).status is Status.PENDING
    assert len(replicas.heard.commits) == 1
    assert len(await desk.acquire()) == 1


async def test_an_outcome_whose_answer_is_lost_is_recorded(
    store: PostgresStore, desk: Desk
) -> None:
    """A journal row is written once more, which changes nothing."""
    state = await desk.answered(await desk.running(), calls=[desk.call("a")])
    await desk.start_calls(state, "a")
    lose_the_next_answer(store)

    await desk.finish_call(state, "a", "seen")

    (call,) = (await store.load(state.id)).calls
    assert call.outcome is not None
    assert call.outcome.output == "seen"


async def test_a_connection_killed_in_the_middle_of_a_commit_is_replaced(
    replicas: PostgresStores, desk: Desk, stranger: asyncpg.Connection
) -> None:
    """The server ends the backend while it writes: nothing was written, so it is written now."""
    state = await desk.start(await desk.running())

    async with locked(replicas.url, state.id):
        answering = asyncio.create_task(desk.answer(state))
        await until_blocked(stranger)
        assert await cut_off(stranger) >= 1
        await until_blocked(stranger)
    applied = await answering

    assert await desk.texts(state.id) == ["hello", "answer"]
    assert_gap_free(await desk.log(state.id), applied.state)


async def test_a_commit_that_goes_on_without_us_is_waited_for(
    replicas: PostgresStores, store: PostgresStore, desk: Desk, stranger: asyncpg.Connection
) -> None:
    """Our end of the connection is gone and the backend commits later: written once."""
    state = await desk.start(await desk.running())

    async with locked(replicas.url, state.id):
        used = store.writers._free[-1]
        answering = asyncio.create_task(desk.answer(state))
        await until_blocked(stranger)
        used.terminate()
        await until_blocked(stranger, 2)
    applied = await answering

    assert await desk.texts(state.id) == ["hello", "answer"]
    assert replicas.heard.commits[-1] == applied
    assert_gap_free(await desk.log(state.id), applied.state)


async def test_connections_that_died_while_idle_are_not_used(
    store: PostgresStore, desk: Desk, stranger: asyncpg.Connection
) -> None:
    """After a restart of the database the next command finds new connections."""
    chat_id = await desk.create("")
    await store.load(chat_id)
    assert await cut_off(stranger) >= 2

    applied = await desk.send(chat_id, "hello")

    assert applied.state == await store.load(chat_id)


async def test_nothing_is_acknowledged_while_the_database_is_away(
    replicas: PostgresStores, migrated_url: str
) -> None:
    """Every method says DatabaseUnavailable, and all of them work again afterwards."""
    async with Proxy(migrated_url) as proxy:
        replicas.url = proxy.url
        store = await replicas.open()
        desk = Desk(store, replicas.clock)
        state = await desk.start(await desk.running())
        keys = PostgresKeyStore(store)
        await proxy.cut()

        for refused in (
            desk.answer(state),
            desk.create(),
            desk.start_calls(state, "a"),
            desk.acquire(),
            store.heartbeat(W1, [(state.id, state.epoch)], 30.0),
            store.rescue(W1, 1),
            store.load(state.id),
            store.next_due(),
            store.prune_commands(0),
            keys.list_keys(),
        ):
            with pytest.raises(DatabaseUnavailable):
                await refused
        assert not await store.is_reachable()
        assert replicas.observer.noted(Span.DATABASE_FAILED)

        await proxy.mend()

        assert await store.is_reachable()
        assert (await desk.answer(state)).state.revision == state.revision + 1
        assert await desk.texts(state.id) == ["hello", "answer"]


async def test_a_closed_store_says_so(replicas: PostgresStores) -> None:
    """A command after the end is refused and does not hang."""
    store = await replicas.open()
    desk = Desk(store, replicas.clock)
    await replicas.close(store)

    with pytest.raises(DatabaseUnavailable, match="closed"):
        await desk.create()


# --- several replicas ----------------------------------------------------------------------


async def test_a_thousand_chats_are_acquired_by_two_replicas_and_none_twice(
    replicas: PostgresStores,
) -> None:
    """Each chat has one holder, and each holder the epoch that it was told."""
    here, there = await replicas.open(), await replicas.open()
    desk = Desk(here, replicas.clock)
    for _ in range(10):
        await asyncio.gather(*(desk.create(f"chat {number}") for number in range(100)))

    async def take_all(store: PostgresStore, worker: WorkerId) -> list[tuple[ChatId, int]]:
        taken: list[tuple[ChatId, int]] = []
        misses = 0
        while misses < 3:
            acquired = await store.acquire(worker, 64, 30.0)
            misses = 0 if acquired else misses + 1
            taken += [(chat.state.id, chat.state.epoch) for chat in acquired]
        return taken

    mine, yours = await asyncio.gather(take_all(here, W1), take_all(there, W2))

    assert len(mine) + len(yours) == 1_000
    assert len({chat_id for chat_id, _ in mine + yours}) == 1_000
    assert mine
    assert yours
    assert len(await here.heartbeat(W1, mine, 30.0)) == len(mine)
    assert len(await there.heartbeat(W2, yours, 30.0)) == len(yours)
    assert await here.heartbeat(W1, yours, 30.0) == []


async def test_a_replica_rescues_the_chats_of_one_that_died(replicas: PostgresStores) -> None:
    """After the lease another worker gives the chat back, and the first one is fenced."""
    here, there = await replicas.open(), await replicas.open()
    desk = Desk(here, replicas.clock)
    state = await desk.start(await desk.running())
    assert await there.rescue(W2, 10) == 0

    await replicas.clock.advance(31)
    assert await there.rescue(W2, 10) == 1
    (acquired,) = await there.acquire(W2, 1, 30.0)

    assert acquired.state.epoch == state.epoch + 1
    assert await here.heartbeat(W1, [(state.id, state.epoch)], 30.0) == []
    before = await there.load(state.id)
    with pytest.raises(LeaseLost):
        await desk.answer(state)
    with pytest.raises(LeaseLost):
        await desk.start_calls(state, "a")
    assert await there.load(state.id) == before


async def test_an_expired_lease_belongs_to_whom_the_database_hears_first(
    replicas: PostgresStores,
) -> None:
    """Heartbeat and rescue at the same moment: one of them wins, and both know it."""
    here, there = await replicas.open(), await replicas.open()
    desk = Desk(here, replicas.clock)
    for _ in range(20):
        state = await desk.running()
        await replicas.clock.advance(31)

        beats, rescued = await asyncio.gather(
            here.heartbeat(W1, [(state.id, state.epoch)], 30.0), there.rescue(W2, 10)
        )

        assert len(beats) + rescued == 1
        found = await here.load(state.id)
        assert found.status is (Status.RUNNING if beats else Status.PENDING)
        if not beats:
            (acquired,) = await desk.acquire()
            state = acquired.state
        await desk.finish(state)


async def test_writers_of_two_replicas_on_one_chat_leave_no_gap(
    replicas: PostgresStores,
) -> None:
    """Each replica tells its own commits in order; together they are all of them."""
    heard = [HeardCommits(), HeardCommits()]
    stores = [await replicas.open(), await replicas.open()]
    for store, listener in zip(stores, heard, strict=True):
        store.listen(listener)
    desks = [Desk(store, replicas.clock) for store in stores]
    chat_id = await desks[0].create("")
    heard[0].commits.clear()

    await asyncio.gather(
        *(desks[n % 2].store.apply(chat_id, title(n), owner_id=ANN) for n in range(60))
    )

    told = [[commit.state.revision for commit in listener.commits] for listener in heard]
    assert told[0] == sorted(told[0])
    assert told[1] == sorted(told[1])
    assert sorted(told[0] + told[1]) == list(range(2, 62))
    assert_gap_free(await desks[0].log(chat_id), await stores[0].load(chat_id))


def title(number: int) -> SetTitle:
    """Return a command that always changes something."""
    return SetTitle(command_id=f"title {number}", title=f"title {number}")


async def test_a_request_sent_to_two_replicas_is_carried_out_once(
    replicas: PostgresStores,
) -> None:
    """The later one waits for the first and gets its answer."""
    here, there = await replicas.open(), await replicas.open()
    desk = Desk(here, replicas.clock)
    for number in range(10):
        request = RequestKey(f"request {number}", b"body")
        commands = [desk.create_command("hello"), desk.create_command("hello")]

        answers = await asyncio.gather(
            here.apply(commands[0].chat_id, commands[0], request=request),
            there.apply(commands[1].chat_id, commands[1], request=request),
        )

        assert sorted(answer.replayed for answer in answers) == [False, True]
        assert answers[0].state.id == answers[1].state.id
        with pytest.raises(RequestIdReused):
            await there.apply(
                commands[1].chat_id,
                commands[1],
                request=msgspec.structs.replace(request, body_hash=b"x"),
            )
    assert len((await here.list_chats(ANN, limit=50)).chats) == 10


async def test_an_acquisition_leaves_out_what_is_being_written(
    replicas: PostgresStores, desk: Desk
) -> None:
    """A row that is locked is skipped, not waited for."""
    busy = await desk.create("busy")
    free = await desk.create("free")

    async with locked(replicas.url, busy):
        acquired = await desk.acquire(slots=2)

    assert [chat.state.id for chat in acquired] == [free]
    assert [chat.state.id for chat in await desk.acquire(slots=2)] == [busy]


# --- time ----------------------------------------------------------------------------------


@asynccontextmanager
async def on_postgres_time(url: str, clock: ManualClock | RealClock) -> AsyncIterator[Desk]:
    """Open a store that has its time from PostgreSQL, on a machine with this clock."""
    store = await PostgresStore.open(
        url, clock=clock, wake=LocalWake(), observer=NullObserver(), writers=2
    )
    try:
        yield Desk(store, ManualClock())
    finally:
        await store.close()


async def postgres_now(stranger: asyncpg.Connection) -> Instant:
    """Return what PostgreSQL's clock shows."""
    now: float = await stranger.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    return round(now * MICROSECONDS)


async def test_a_replica_with_a_wrong_clock_writes_postgres_time(
    migrated_url: str, stranger: asyncpg.Connection
) -> None:
    """Leases, deadlines and dates come from one clock, whatever a replica's own one shows."""
    async with on_postgres_time(migrated_url, ManualClock(0)) as desk:
        before = await postgres_now(stranger)
        state = await desk.start(await desk.running())
        applied = await desk.answer(state)
        after = await postgres_now(stranger)

    assert state.lease is not None
    lease_began = state.lease.expires_at - 30 * MICROSECONDS
    for at in (state.created_at, lease_began, applied.state.updated_at):
        # The clock of 1970 stands still between two looks at PostgreSQL's.
        assert before - MICROSECONDS <= at <= after + MICROSECONDS


async def test_a_lease_expires_by_postgres_clock(migrated_url: str) -> None:
    """Only a lease whose time is over is rescued; a heartbeat moves it."""
    async with on_postgres_time(migrated_url, RealClock()) as desk:
        state = await desk.running()
        held = [(state.id, state.epoch)]
        assert await desk.store.rescue(W2, 10) == 0

        await desk.store.heartbeat(W1, held, 0.0)
        await desk.store.heartbeat(W1, held, 60.0)
        assert await desk.store.rescue(W2, 10) == 0

        await desk.store.heartbeat(W1, held, 0.0)
        assert await desk.store.rescue(W2, 10) == 1
        found = await desk.store.load(state.id)
    assert found.status is Status.PENDING
    assert found.lease is None


async def test_a_retry_is_due_when_the_replicas_own_clock_says(migrated_url: str) -> None:
    """next_due is for a sleep on the local clock, so it is told in local time."""
    async with on_postgres_time(migrated_url, ManualClock(0)) as desk:
        state = await desk.asking("a")
        assert state.action is not None

        due = await desk.store.next_due()

    assert due is not None
    assert abs(due - 300 * MICROSECONDS) < 60 * MICROSECONDS


# --- statements ----------------------------------------------------------------------------


async def test_each_write_of_a_step_is_one_statement(store: PostgresStore, desk: Desk) -> None:
    """A step with one tool: four commits and two journal writes, six statements."""
    state = await desk.running()
    sent = statements_of(store)

    state = await desk.answered(state, calls=[desk.call("a")])
    assert sent.total() == 2
    state = await desk.start(state, AttemptKind.TOOLS)
    await desk.start_calls(state, "a")
    await desk.finish_call(state, "a")
    await desk.results(state, desk.result("a"))

    assert sent.total() == 6


async def test_the_end_of_a_turn_is_one_statement(store: PostgresStore, desk: Desk) -> None:
    """Also when a queued message becomes the next turn."""
    state = await desk.running()
    queued = await desk.send(state.id, "next")
    state = await desk.answered(queued.state)
    sent = statements_of(store)

    applied = await desk.finish(state)

    assert applied.state.status is Status.PENDING
    assert applied.state == await store.load(state.id)
    assert sent.total() == 1


async def test_a_message_is_a_look_and_a_write(store: PostgresStore, desk: Desk) -> None:
    """A client's command decides on fresh rows, without a transaction of several statements."""
    chat_id = await desk.create("")
    sent = statements_of(store)

    await desk.send(chat_id, "hello", request=RequestKey("request", b"body"))

    assert sent.total() == 2


async def test_an_acquisition_writes_all_chats_in_one_statement(
    store: PostgresStore, desk: Desk
) -> None:
    """Twenty chats cost as many statements as one."""
    for number in range(20):
        await desk.create(f"chat {number}")
    sent = statements_of(store)

    assert len(await desk.acquire(slots=20)) == 20

    writes = [statement for statement in sent.elements() if "UPDATE chats" in statement]
    assert len(writes) == 1
    assert sent.total() <= 5


async def test_many_messages_and_events_fit_one_statement(store: PostgresStore, desk: Desk) -> None:
    """Beyond a few rows they travel as arrays, with the same result."""
    calls = [f"call {number}" for number in range(12)]
    state = await desk.answered(await desk.running(), calls=[desk.call(one) for one in calls])
    state = await desk.start(state, AttemptKind.TOOLS)
    sent = statements_of(store)

    applied = await desk.results(state, *(desk.result(one, f"{one} \x00") for one in calls))

    assert sent.total() == 1
    assert applied.state == await store.load(state.id)
    assert list(applied.events) == list(await desk.log(state.id))[-len(applied.events) :]


async def test_events_carry_the_transaction_that_wrote_them(
    desk: Desk, stranger: asyncpg.Connection
) -> None:
    """A reader of many chats stops below the oldest running transaction."""
    chat_id = await desk.create("hello")
    await desk.send(chat_id, "more")

    rows = await stranger.fetch("SELECT txid, sequence FROM events ORDER BY sequence")
    newest = await stranger.fetchval("SELECT pg_current_xact_id()::text::bigint")

    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert len({row["txid"] for row in rows}) == 2
    assert [row["txid"] for row in rows] == sorted(row["txid"] for row in rows)
    assert rows[-1]["txid"] < newest


# --- schema --------------------------------------------------------------------------------


async def open_on(url: str) -> PostgresStore:
    """Open a store as the server does."""
    return await PostgresStore.open(
        url, clock=RealClock(), wake=LocalWake(), observer=NullObserver(), writers=1
    )


async def test_an_empty_database_is_refused_with_the_command_that_helps(
    postgres_url: str,
) -> None:
    """PostgreSQL is migrated on purpose only."""
    with pytest.raises(SchemaOutdated, match="chatd migrate"):
        await open_on(postgres_url)


async def test_replicas_may_migrate_at_once(postgres_url: str) -> None:
    """One of them migrates, the others wait and find nothing to do."""
    await asyncio.gather(*(migrate(postgres_url) for _ in range(3)))
    await migrate(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))

    store = await open_on(postgres_url)
    assert await store.is_reachable()
    await store.close()


async def test_a_newer_schema_is_refused(migrated_url: str, stranger: asyncpg.Connection) -> None:
    """An old server does not write into what it does not know, nor migrate it back."""
    await stranger.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaTooNew, match="9999"):
        await open_on(migrated_url)
    with pytest.raises(SchemaTooNew):
        await migrate(migrated_url)
    assert await stranger.fetchval("SELECT version_num FROM alembic_version") == "9999"
    assert SCHEMA < "9999"


async def test_a_database_that_is_not_there_is_unavailable(migrated_url: str) -> None:
    """A wrong name or a server that is down: typed, and without the URL's password."""
    for url in (
        migrated_url + "_not",
        "postgresql://chatd:secret@127.0.0.1:1/chatd",
    ):
        with pytest.raises(DatabaseUnavailable) as caught:
            await open_on(url)
        assert "secret" not in str(caught.value)


async def test_text_of_a_part_survives_whatever_it_is(store: PostgresStore, desk: Desk) -> None:
    """Content is bytes to PostgreSQL, so a NUL is a character like any other."""
    applied = await desk.send(await desk.create(""), "a\x00b")
    (message,) = applied.messages
    assert message.parts == (Text("a\x00b"),)
    assert await store.message_position(applied.state.id, message.id) == message
