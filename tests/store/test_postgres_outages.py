"""Lost answers and lost connections: nothing is lost, nothing is written twice."""

import asyncio
from functools import partial
from inspect import getmembers, iscoroutinefunction

import asyncpg
import pytest

from chatd_server.domain.chat import AttemptKind, Status
from chatd_server.domain.command import SetArchived
from chatd_server.domain.ids import MessageId
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import spans
from chatd_server.ports.keys import KeyRecord, KeyStore
from chatd_server.ports.store import RequestKey, Store
from chatd_server.ports.watch import Place
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.store import PostgresStore
from tests.store.conftest import PostgresStores
from tests.store.desk import ANN, W1, Desk, assert_gap_free
from tests.store.outages import (
    Dead,
    LosesCommits,
    cut_off,
    locked,
    lose_the_next_answer,
    until_blocked,
)
from tests.store.proxy import Proxy


@pytest.fixture
def stores(replicas: PostgresStores) -> PostgresStores:
    """Take the shared store alone."""
    return replicas


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
    assert len(replicas.heard.commits) == 4
    assert_gap_free(await desk.log(state.id), applied.state)


async def test_a_chain_whose_answer_is_lost_is_done_once(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """One record answers for all of its commands, and for the calls that it starts."""
    state = await desk.start(await desk.running())
    answer = desk.answer_command(state, calls=[desk.call("a")])
    lose_the_next_answer(store)

    applied = await desk.chain(
        state, answer, desk.start_command(state, AttemptKind.TOOLS), started=["a"]
    )

    assert not applied.replayed
    assert applied.state == await store.load(state.id)
    assert applied.state.revision == state.revision + 2
    assert applied.state.calls[0].started_at is not None
    assert replicas.heard.commits[-1] == applied
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
    """After a lost answer every chat that was taken is run."""
    chat_ids = {await desk.create(f"chat {number}") for number in range(3)}
    store.writers._free[-1] = LosesCommits(store.writers._free[-1])

    acquired = await desk.acquire(slots=3)

    assert {chat.state.id for chat in acquired} == chat_ids
    assert all(chat.state.status is Status.RUNNING for chat in acquired)
    assert [len(chat.messages) for chat in acquired] == [1, 1, 1]


async def test_chats_whose_messages_could_not_be_read_are_the_workers_all_the_same(
    store: PostgresStore, desk: Desk
) -> None:
    """They are leased already: without a second try nobody would run them until that ends."""
    chat_id = await desk.create("hello")
    await store.load(chat_id)
    store.readers._free[-1].terminate()
    store.readers._free[-1] = Dead()

    (acquired,) = await desk.acquire()

    assert acquired.state.id == chat_id
    assert len(acquired.messages) == 1


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
    state = await desk.begin(state, "a")
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


async def test_one_dead_connection_is_not_replaced_by_another(
    store: PostgresStore, desk: Desk
) -> None:
    """All of them died with the server: what is tried again begins with a new one."""
    state = await desk.start(await desk.running())
    store.writers._free += [Dead(), Dead(), Dead()]
    store.writers._count += 3

    await desk.answer(state)

    assert await desk.texts(state.id) == ["hello", "answer"]
    assert store.writers._count == len(store.writers._free)


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

        calls = (
            partial(store.apply, state.id, desk.answer_command(state)),
            partial(store.load, state.id),
            partial(store.list_chats, ANN, limit=1),
            partial(store.list_actions, ANN, limit=1),
            partial(store.messages, state.id, after_position=0, limit=1, bytes_max=1),
            partial(store.message_position, state.id, MessageId("m")),
            partial(store.acquire, W1, 1, 30.0),
            partial(store.heartbeat, W1, [(state.id, state.epoch)], 30.0),
            partial(store.rescue, W1, 1),
            partial(store.expire_actions, W1, 1),
            partial(store.next_due),
            partial(store.apply_family, state.id, SetArchived(command_id="f", archived=True)),
            partial(store.finish_call, state.id, state.epoch, desk.result("a")),
            partial(store.events, state.id, after=0, limit=1, bytes_max=1),
            partial(store.messages_as_of, state, after_position=0),
            partial(store.watch_head),
            partial(store.watched, ANN, after=Place(0, 0, 0), limit=1),
            partial(store.answered, RequestKey("k", b"hash")),
            partial(store.prune_events, 0),
            partial(store.prune_commands, 0),
            partial(store.secret, "pages"),
            partial(keys.add_key, KeyRecord("k", ANN, "k", 0), b"hash"),
            partial(keys.find_key, b"hash"),
            partial(keys.list_keys),
            partial(keys.revoke_key, "k", 0),
        )
        ports = (
            *getmembers(Store, iscoroutinefunction),
            *getmembers(KeyStore, iscoroutinefunction),
        )
        assert {it.func.__name__ for it in calls} == {name for name, _ in ports} - {"is_reachable"}
        for call in calls:
            with pytest.raises(DatabaseUnavailable):
                await call()
        assert not await store.is_reachable()
        assert replicas.observer.noted(spans.DatabaseFailed)

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
