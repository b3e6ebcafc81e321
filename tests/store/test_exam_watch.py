"""The exam of every store: what watchers of many chats read."""

import asyncio
from collections.abc import Sequence

import asyncpg

from chatd_server.domain.chat import ChatConfig
from chatd_server.domain.command import DeleteChat, UpdateChat
from chatd_server.domain.event import WATCHED, ChatDeleted, LoggedEvent
from chatd_server.domain.ids import ChatId
from chatd_server.ports.store import Store
from chatd_server.ports.watch import Place, WatchedEvent
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.sqlite.store import SqliteStore
from tests.store.conftest import PostgresStores, Stores
from tests.store.desk import ANN, BOB, Desk

START = Place(0, 0, 0)
WRITERS = 16
TURNS = 2


async def _read(store: Store, after: Place = START, limit: int = 3) -> list[WatchedEvent]:
    """Read page after page until nothing more can come now."""
    found: list[WatchedEvent] = []
    while True:
        page = await store.watched(ANN, after=after, limit=limit)
        assert len(page.events) <= limit
        found += page.events
        after = page.reached
        if page.more or page.held_back:
            continue
        return found


async def _expected(desk: Desk, chat_id: ChatId) -> list[LoggedEvent]:
    return [it for it in await desk.log(chat_id) if isinstance(it.event, WATCHED)]


def _of(chat_id: ChatId, found: Sequence[WatchedEvent]) -> list[LoggedEvent]:
    return [it.logged for it in found if it.chat_id == chat_id]


async def test_watchers_read_the_events_of_all_chats_of_their_owner(
    store: Store, desk: Desk
) -> None:
    """Those that are watched, each once, in the order of each log, and nobody else's."""
    labelled = ChatConfig(title="one", labels={"team": "red", "x": "\x1e"})
    first = await desk.create("", config=labelled)
    state = await desk.running("hello")
    await desk.finish(await desk.answered(state))
    await store.apply(first, UpdateChat(command_id=desk.id(), title="two"), owner_id=ANN)
    asking = await desk.asking("a")
    await desk.create("not hers", owner=BOB)

    found = await _read(store)

    chats = [first, state.id, asking.id]
    assert {it.chat_id for it in found} == set(chats)
    for chat_id in chats:
        assert _of(chat_id, found) == await _expected(desk, chat_id)
        assert _of(chat_id, found)
    assert [it.place for it in found] == sorted(it.place for it in found)
    labels = frozenset(labelled.labels.items())
    assert {(it.labels, it.root_id) for it in found if it.chat_id == first} == {(labels, first)}


async def test_nothing_before_the_head_comes_later(store: Store, desk: Desk) -> None:
    """Who begins at the head gets what is committed after it, and a page says where to continue."""
    await desk.create("before")
    head = await store.watch_head()
    while (page := await store.watched(ANN, after=head, limit=10)).held_back:
        pass
    assert not page.events

    chat_id = await desk.create("after")

    assert _of(chat_id, await _read(store, page.reached)) == await _expected(desk, chat_id)


async def test_a_deletion_is_the_last_event_of_a_chat(store: Store, desk: Desk) -> None:
    """Of one that works, after its last status, and of one that did nothing."""
    chats = [(await desk.running("hello")).id, await desk.create("")]

    for chat_id in chats:
        await store.apply(chat_id, DeleteChat(command_id=desk.id()), owner_id=ANN)

    found = await _read(store)
    for chat_id in chats:
        kinds = [type(it.event) for it in _of(chat_id, found)]
        assert kinds[-1] is ChatDeleted
        assert kinds.count(ChatDeleted) == 1


async def test_watchers_miss_nothing_while_many_write(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A reader that never waits sees each event once, in the order of each log."""
    other = await stores.open() if stores.shared else store
    desks = [desk, Desk(other, stores.clock)]
    head = await store.watch_head()
    chats: list[ChatId] = []
    done = asyncio.Event()

    async def write(number: int) -> None:
        by = desks[number % 2]
        for turn in range(TURNS):
            chat_id = await by.create(f"{number} {turn}")
            chats.append(chat_id)
            await asyncio.gather(
                *(by.store.apply(chat_id, _title(by, name), owner_id=ANN) for name in "abc")
            )
            await by.interrupt(chat_id)

    async def read() -> list[WatchedEvent]:
        after = head
        found: list[WatchedEvent] = []
        while True:
            last = done.is_set()
            page = await store.watched(ANN, after=after, limit=20)
            found += page.events
            after = page.reached
            if last and not page.more and not page.held_back:
                return found

    reading = asyncio.create_task(read())
    await asyncio.gather(*map(write, range(WRITERS)))
    done.set()
    found = await reading

    assert len(chats) == WRITERS * TURNS
    for chat_id in chats:
        assert _of(chat_id, found) == await _expected(desks[0], chat_id)
    assert len(found) == len({it.place for it in found})
    if stores.shared:
        await stores.close(other)


def _title(desk: Desk, title: str) -> UpdateChat:
    return UpdateChat(command_id=desk.id(), title=title)


# --- PostgreSQL ----------------------------------------------------------------------------


async def test_an_older_transaction_holds_newer_events_back(
    replicas: PostgresStores,
) -> None:
    """It may still write: what would come before them must not come after them."""
    store = await replicas.open()
    desk = Desk(store, replicas.clock)
    other = await asyncpg.connect(replicas.url)
    transaction = other.transaction()
    await transaction.start()
    await other.fetchval("SELECT pg_current_xact_id()")
    chat_id = await desk.create("hello")

    page = await store.watched(ANN, after=START, limit=10)

    assert page.held_back
    assert not page.events
    await transaction.rollback()
    await other.close()
    assert _of(chat_id, await _read(store, page.reached)) == await _expected(desk, chat_id)


async def test_labels_rise_with_the_log_of_a_chat(replicas: PostgresStores) -> None:
    """An older transaction that waited for a newer one takes its label."""
    store = await replicas.open()
    desk = Desk(store, replicas.clock)
    chat_id = await desk.create("hello")
    other = await asyncpg.connect(replicas.url)
    newer = await other.fetchval("UPDATE events SET txid = txid + 5 RETURNING txid")

    await store.apply(chat_id, _title(desk, "title"), owner_id=ANN)
    (acquired,) = await desk.acquire()

    found = await other.fetch("SELECT txid FROM events WHERE sequence > 3 ORDER BY sequence")
    await other.close()
    assert acquired.state.head_sequence > 4
    assert [row[0] >= newer for row in found] == [True] * len(found)


async def test_a_restored_dump_can_be_watched(replicas: PostgresStores) -> None:
    """Its labels are of another cluster, whose transactions may be far ahead."""
    store = await replicas.open()
    desk = Desk(store, replicas.clock)
    chat_id = await desk.create("hello")
    other = await asyncpg.connect(replicas.url)
    await other.execute("UPDATE events SET txid = 1000000000")
    await other.close()
    store = await replicas.reopen(store)  # type: ignore[assignment]
    desk = Desk(store, replicas.clock)

    await store.apply(chat_id, _title(desk, "title"), owner_id=ANN)

    assert _of(chat_id, await _read(store)) == await _expected(desk, chat_id)


async def test_watchers_read_by_the_index_of_watched_events(store: Store, desk: Desk) -> None:
    """Not all events since the beginning."""
    await desk.create("hello")
    plan = await _plan(store)

    assert "events_watched" in plan, plan


async def _plan(store: Store) -> str:
    if isinstance(store, SqliteStore):
        from chatd_server.store.sqlite import statements  # noqa: PLC0415

        wanted = {**START._asdict(), "owner_id": ANN, "limit": 10}

        def explain(cursor: object) -> str:
            rows = cursor.execute("EXPLAIN QUERY PLAN " + statements.WATCHED, wanted)  # type: ignore[attr-defined]
            return "\n".join(row[-1] for row in rows.fetchall())

        return await store.readers.read(explain)
    assert isinstance(store, PostgresStore)
    from chatd_server.store.postgres import statements as postgres  # noqa: PLC0415

    query, *arguments = postgres.WATCHED(owner_id=ANN, limit=10, **START._asdict())
    async with store.readers.use() as link:
        await link.execute("SET enable_seqscan = off")
        rows = await link.fetch("EXPLAIN " + query, *arguments)
        await link.execute("RESET enable_seqscan")
    return "\n".join(row[0] for row in rows)
