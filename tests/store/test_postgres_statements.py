"""What the shared store sends for one write, and the schema that it needs."""

import asyncio
import uuid

import asyncpg
import pytest

from chatd_server.clock import RealClock
from chatd_server.domain.chat import AttemptKind, Status
from chatd_server.domain.message import Executor, Text
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import NullObserver
from chatd_server.ports.store import RequestKey
from chatd_server.store.postgres.migrate import migrate
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.errors import SchemaOutdated, SchemaTooNew
from chatd_server.store.shared.upgrade import SCHEMA
from chatd_server.store.shared.wake import LocalWake
from tests.store.conftest import PostgresStores
from tests.store.desk import Desk
from tests.store.outages import (
    statements_of,
)


@pytest.fixture
def stores(replicas: PostgresStores) -> PostgresStores:
    """Take the shared store alone."""
    return replicas


# --- statements ---------------------------------------------------------------------------


async def test_each_write_of_a_step_is_one_statement(store: PostgresStore, desk: Desk) -> None:
    """A step with one tool, command by command, with an outcome in the journal: five."""
    state = await desk.running()
    sent = statements_of(store)

    state = await desk.answered(state, calls=[desk.call("a")])
    assert sent.total() == 2
    state = await desk.begin(state, "a")
    await desk.finish_call(state, "a")
    await desk.results(state, desk.result("a"))

    assert sent.total() == 5


async def test_each_chain_is_one_statement(store: PostgresStore, desk: Desk) -> None:
    """Also when outcomes were recorded since the holder loaded: a step with two tools, whose
    results are followed by the next attempt, the client's action or the end of the turn.
    """
    for number in range(3):
        state = await desk.start(await desk.running())
        clients = [desk.call("c", Executor.CLIENT)] if number == 1 else []
        answer = desk.answer_command(state, calls=[desk.call("a"), desk.call("b"), *clients])
        start = desk.start_command(state, AttemptKind.TOOLS)
        sent = statements_of(store)
        state = (await desk.chain(state, answer, start, started=["a", "b"])).state
        assert sent.total() == 1
        await desk.finish_call(state, "a")
        last = (
            desk.start_command(state, AttemptKind.MODEL),
            desk.action_command(state),
            desk.finish_command(state),
        )[number]

        applied = await desk.chain(
            state, desk.results_command(state, desk.result("a"), desk.result("b")), last
        )

        assert sent.total() == 3
        loaded = await store.load(state.id)
        assert (loaded.revision, loaded.status) == (state.revision + 2, applied.state.status)


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


# --- schema -------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("hosts", "query"),
    [
        pytest.param("127.0.0.1:1,", "", id="several hosts, the first one is down"),
        pytest.param("", "?sslmode=prefer", id="libpq's parameters"),
        pytest.param("127.0.0.1:1,", "?target_session_attrs=read-write", id="both"),
    ],
)
async def test_every_url_that_serves_also_migrates(
    postgres_url: str, hosts: str, query: str
) -> None:
    """Managed databases are named so; one reader of URLs, the driver, is for both."""
    url = postgres_url.replace("@", f"@{hosts}") + query
    assert await migrate(url) is None

    assert await migrate(url) == SCHEMA
    store = await open_on(url)
    assert await store.is_reachable()
    await store.close()


async def test_a_user_without_the_right_is_told_which_one(
    migrated_url: str, stranger: asyncpg.Connection
) -> None:
    """Since PostgreSQL 15 only its owner may make tables in a new database: it happens to many."""
    weak = f"weak_{uuid.uuid4().hex}"
    await stranger.execute(f"CREATE ROLE {weak} LOGIN")
    await stranger.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = migrated_url.replace("//chatd@", f"//{weak}@")
    try:
        with pytest.raises(DatabaseUnavailable, match="permission denied"):
            await open_on(url)
        await stranger.execute("DROP TABLE alembic_version")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await migrate(url)
    finally:
        await stranger.execute(f"DROP ROLE {weak}")


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
