"""The exam of every store: what a family does together, and what its parent's log tells."""

import asyncio
import random

import msgspec
import pytest

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import Create, DeleteChat, SetArchived, SetTitle
from chatd_server.domain.event import ChatDeleted, SubagentChanged
from chatd_server.domain.ids import ChatId, ToolCallId, child_uuid
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.refusal import ChatArchived, ChatNotFound, WrongStatus
from chatd_server.ports.store import Applied, RequestKey, Store
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.sqlite.store import SqliteStore
from tests.store.conftest import Stores
from tests.store.desk import ANN, BOB, LEASE_SECONDS, W1, Desk, assert_gap_free


def child_of(desk: Desk, root: ChatId, text: str = "") -> Create:
    """Return the command that makes a child."""
    return msgspec.structs.replace(desk.create_command(text), parent_id=root, root_id=root)


async def born(desk: Desk, root: ChatId, text: str = "") -> ChatId:
    """Make a child."""
    command = child_of(desk, root, text)
    await desk.store.apply(command.chat_id, command)
    return command.chat_id


def archive(desk: Desk, archived: bool = True) -> SetArchived:
    """Return a command that nobody sent yet."""
    return SetArchived(command_id=desk.id(), archived=archived)


async def told(desk: Desk, root: ChatId) -> list[tuple[str, Status, bool, bool]]:
    """Return what the log of a chat tells of children; it has no gap."""
    log = await desk.log(root)
    assert_gap_free(log, await desk.store.load(root))
    return [
        (it.chat_id, it.status, it.archived, it.deleted)
        for logged in log
        if isinstance(it := logged.event, SubagentChanged)
    ]


async def archived_ones(desk: Desk, *chat_ids: ChatId) -> list[bool]:
    """Return which of them are archived."""
    return [(await desk.store.load(it)).archived for it in chat_ids]


async def test_a_family_is_archived_and_unarchived_as_a_whole(store: Store, desk: Desk) -> None:
    """Root, children and nobody else; each log has its own event, and the answer the number."""
    root = await desk.create("")
    first, second = await born(desk, root), await born(desk, root)
    stranger = await desk.create("")

    done = await store.apply_family(root, archive(desk), owner_id=ANN)

    assert done.reply.chats == 3
    assert done.state == await store.load(root)
    assert await archived_ones(desk, root, first, second, stranger) == [True, True, True, False]
    for one in (root, first, second):
        assert_gap_free(await desk.log(one), await store.load(one))
    again = await store.apply_family(root, archive(desk), owner_id=ANN)
    assert (again.reply.chats, again.sequence) == (0, done.sequence)
    back = await store.apply_family(root, archive(desk, archived=False), owner_id=ANN)
    assert back.reply.chats == 3
    assert await archived_ones(desk, root, first, second) == [False] * 3


async def test_a_child_at_work_keeps_its_family_from_being_archived(
    store: Store, desk: Desk
) -> None:
    """All or nothing; the refusal names it."""
    root = await desk.create("")
    idle = await born(desk, root)
    busy = await born(desk, root, "hello")
    before = [await store.load(it) for it in (root, idle, busy)]

    with pytest.raises(WrongStatus) as refused:
        await store.apply_family(root, archive(desk), owner_id=ANN)

    assert refused.value.metadata == {"status": "PENDING", "chat_id": busy}
    assert [await store.load(it) for it in (root, idle, busy)] == before


async def test_a_child_is_archived_alone_and_not_unarchived_under_its_parent(
    store: Store, desk: Desk
) -> None:
    """Its parent and its sister stay as they are."""
    root = await desk.create("")
    first, second = await born(desk, root), await born(desk, root)

    done = await store.apply_family(first, archive(desk), owner_id=ANN)

    assert done.reply.chats == 1
    assert await archived_ones(desk, root, first, second) == [False, True, False]
    assert (await told(desk, root))[-1] == (first, Status.WAITING, True, False)
    await store.apply_family(root, archive(desk), owner_id=ANN)
    with pytest.raises(ChatArchived) as refused:
        await store.apply_family(first, archive(desk, archived=False), owner_id=ANN)
    assert refused.value.metadata["chat_id"] == root


async def test_deletion_takes_the_family_whatever_it_does(store: Store, desk: Desk) -> None:
    """A running child ends as interrupted, with a result for each open call."""
    root = await desk.create("")
    child = await born(desk, root, "hello")
    (acquired,) = await desk.acquire()
    state = await desk.answered(acquired.state, calls=[desk.call("c1"), desk.call("c2")])
    state = await desk.begin(state, "c1", "c2")
    await desk.finish_call(state, "c1", "it is sunny")

    done = await store.apply_family(root, DeleteChat(command_id="d"), owner_id=ANN)

    assert done.reply.chats == 2
    for one in (root, child):
        loaded = await store.load(one)
        assert loaded.deleted
        log = await desk.log(one)
        assert_gap_free(log, loaded)
        assert isinstance(log[-1].event, ChatDeleted)
    assert any("it is sunny" in it for it in await desk.texts(child))
    with pytest.raises(ChatNotFound):
        await store.load(child, ANN)
    assert (await store.list_chats(ANN, limit=9, parent_id=root)).chats == ()


async def test_only_the_owner_moves_a_family(store: Store, desk: Desk) -> None:
    """For others neither the root nor a child is there."""
    root = await desk.create("")
    child = await born(desk, root)
    for one in (root, child):
        with pytest.raises(ChatNotFound):
            await store.apply_family(one, archive(desk), owner_id=BOB)
    with pytest.raises(ChatNotFound):
        await store.apply_family(ChatId("absent"), archive(desk), owner_id=ANN)


async def test_a_repeated_request_is_told_the_same_number(store: Store, desk: Desk) -> None:
    """One record for the request, whatever the family did meanwhile."""
    root = await desk.create("")
    await born(desk, root)
    key = RequestKey("ann/archive/1", b"body")
    first = await store.apply_family(root, archive(desk), owner_id=ANN, request=key)
    await store.apply_family(root, archive(desk, archived=False), owner_id=ANN)

    again = await store.apply_family(root, archive(desk), owner_id=ANN, request=key)

    assert again.replayed
    assert (again.reply.chats, again.sequence) == (2, first.sequence)
    assert await archived_ones(desk, root) == [False]


async def test_listeners_are_told_of_every_member(stores: Stores, desk: Desk) -> None:
    """Streams of children end, too."""
    root = await desk.create("")
    child = await born(desk, root)
    stores.heard.commits.clear()
    await desk.store.apply_family(root, DeleteChat(command_id="d"), owner_id=ANN)
    assert sorted(it.state.id for it in stores.heard.commits) == sorted([root, child])


# --- what the parent is told -----------------------------------------------------------------


async def test_a_parent_is_told_where_a_child_begins_to_wait(store: Store, desk: Desk) -> None:
    """Made, done, renamed, deleted; not of its steps, whose revisions the parent does not share."""
    root = await desk.create("")
    child = await born(desk, root, "hello")
    (acquired,) = await desk.acquire()
    made = await store.load(root)
    state = await desk.answered(acquired.state)
    assert await store.load(root) == made

    await desk.finish(state)

    assert await told(desk, root) == [
        (child, Status.PENDING, False, False),
        (child, Status.WAITING, False, False),
    ]
    await store.apply(child, SetTitle(command_id="t", title="new"))
    await store.apply_family(child, DeleteChat(command_id="d"), owner_id=ANN)
    log = await desk.log(root)
    assert [it.event.title for it in log if isinstance(it.event, SubagentChanged)][-2] == "new"
    assert (await told(desk, root))[-1] == (child, Status.WAITING, False, True)


async def test_a_parent_at_work_goes_on_when_a_child_ends(desk: Desk) -> None:
    """Its worker's next commit finds a newer revision, and is decided again."""
    parent = await desk.running()
    parent = await desk.start(parent)
    child = await born(desk, parent.id, "hello")
    (acquired,) = await desk.acquire()
    await desk.finish(await desk.answered(acquired.state))

    done = await desk.answer(parent)

    assert done.state.status is Status.RUNNING
    assert done.state.lease is not None
    assert await told(desk, parent.id) == [
        (child, Status.PENDING, False, False),
        (child, Status.WAITING, False, False),
    ]


async def test_a_command_that_is_sent_twice_is_told_once(store: Store, desk: Desk) -> None:
    """The parent's event is part of the child's transition."""
    root = await desk.create("")
    command = child_of(desk, root)
    first = await store.apply(command.chat_id, command)
    again = await store.apply(command.chat_id, command)
    assert (again.replayed, again.sequence) == (True, first.sequence)
    title = SetTitle(command_id="t", title="new")
    for _ in range(2):
        await store.apply(command.chat_id, title)
    assert len(await told(desk, root)) == 2


async def test_a_child_whose_workers_are_lost_tells_its_parent(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A sweep decides it, and it is written with the parent's log all the same."""
    root = await desk.create("")
    child = await born(desk, root, "hello")
    for _ in range(RESCUES_MAX + 1):
        assert await desk.acquire()
        await stores.clock.advance(LEASE_SECONDS + 1)
        assert await store.rescue(W1, 9) == 1
    assert (await store.load(child)).status is Status.ERROR
    assert (await told(desk, root))[-1] == (child, Status.ERROR, False, False)
    assert len(await told(desk, root)) == 2


async def test_a_spawn_that_is_repeated_at_once_makes_one_child(store: Store, desk: Desk) -> None:
    """However many come together."""
    root = await desk.create("")
    child_id = child_uuid(root, ToolCallId("call"))
    commands = [msgspec.structs.replace(child_of(desk, root), chat_id=child_id) for _ in range(8)]
    made = await asyncio.gather(*(store.apply(child_id, it) for it in commands))
    assert [it.state.id for it in made] == [child_id] * 8
    assert sum(not it.replayed for it in made) == 1
    assert await told(desk, root) == [(child_id, Status.WAITING, False, False)]


async def test_a_deleted_child_is_not_found_by_its_spawn(store: Store, desk: Desk) -> None:
    """It is gone for its owner, and not made again."""
    root = await desk.create("")
    command = child_of(desk, root)
    await store.apply(command.chat_id, command)
    await store.apply_family(command.chat_id, DeleteChat(command_id="d"), owner_id=ANN)
    with pytest.raises(ChatNotFound):
        await store.apply(command.chat_id, msgspec.structs.replace(command, command_id="again"))


# --- at the same moment ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
async def test_a_child_is_made_before_its_family_is_archived_or_not_at_all(
    stores: Stores, store: Store, desk: Desk, seed: int
) -> None:
    """With two servers where there can be two: nobody ends up under an archived parent, awake."""
    other = await stores.open() if stores.shared else store
    sides = (desk, Desk(other, stores.clock))
    pick = random.Random(seed)
    root = await desk.create("")

    async def spawn(side: Desk) -> ChatId | None:
        command = child_of(side, root)
        try:
            await side.store.apply(command.chat_id, command)
        except ChatArchived:
            return None
        return command.chat_id

    async def shelve(side: Desk) -> Applied:
        return await side.store.apply_family(root, archive(side), owner_id=ANN)

    jobs = [spawn] * 6 + [shelve] * 2
    pick.shuffle(jobs)
    done = await asyncio.gather(*(it(pick.choice(sides)) for it in jobs))

    children = [it for it in done if isinstance(it, str)]
    assert all(await archived_ones(desk, root, *children))
    listed = (await store.list_chats(ANN, limit=9, parent_id=root, include_archived=True)).chats
    assert sorted(it.id for it in listed) == sorted(children)
    seen = await told(desk, root)
    assert sorted(seen) == sorted(
        (it, Status.WAITING, archived, False) for it in children for archived in (False, True)
    )
    assert sum(it.reply.chats for it in done if isinstance(it, Applied)) == len(children) + 1


async def test_children_that_end_together_are_all_told_of(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Each event once, and the parent's log without a gap, also from two servers."""
    other = await stores.open() if stores.shared else store
    root = await desk.create("")
    children = [await born(desk, root) for _ in range(12)]
    titles = [SetTitle(command_id="t", title=f"title {n}") for n in range(12)]
    await asyncio.gather(
        *((store if n % 2 else other).apply(child, titles[n]) for n, child in enumerate(children)),
        *(desk.send(root, f"{n}") for n in range(3)),
    )
    log = await desk.log(root)
    assert_gap_free(log, await store.load(root))
    seen = [it.event.title for it in log if isinstance(it.event, SubagentChanged)]
    assert sorted(seen) == sorted([""] * 12 + [it.title for it in titles])


# --- lists -----------------------------------------------------------------------------------


async def test_a_list_has_root_chats_or_the_children_of_one(store: Store, desk: Desk) -> None:
    """Newest first, page by page; a stranger's parent has none."""
    root, other = await desk.create(""), await desk.create("")
    children = [await born(desk, root) for _ in range(3)]
    await born(desk, other)

    def ids(chats: tuple[ChatState, ...]) -> list[ChatId]:
        return [it.id for it in chats]

    assert ids((await store.list_chats(ANN, limit=9)).chats) == [other, root]
    page = await store.list_chats(ANN, limit=2, parent_id=root)
    assert ids(page.chats) == [children[2], children[1]]
    rest = await store.list_chats(ANN, limit=2, parent_id=root, after_key=page.next_key)
    assert (ids(rest.chats), rest.next_key) == ([children[0]], None)
    assert (await store.list_chats(BOB, limit=9, parent_id=root)).chats == ()
    await store.apply_family(children[0], archive(desk), owner_id=ANN)
    assert children[0] not in ids((await store.list_chats(ANN, limit=9, parent_id=root)).chats)


async def test_children_are_found_by_their_index(store: Store, desk: Desk) -> None:
    """Not by a look at all chats of the owner; nothing is sorted on SQLite."""
    await born(desk, await desk.create(""))
    plan = await _plan(store)
    assert "chats_children" in plan, plan
    assert "TEMP B-TREE" not in plan, plan


async def _plan(store: Store) -> str:
    if isinstance(store, SqliteStore):
        from chatd_server.store.sqlite import statements  # noqa: PLC0415

        wanted = {"owner_id": ANN, "below": 9, "include_archived": 0, "parent_id": "x", "limit": 9}

        def explain(cursor: object) -> str:
            query = "EXPLAIN QUERY PLAN " + statements.owned(0, 0, children=True)
            rows = cursor.execute(query, wanted)  # type: ignore[attr-defined]
            return "\n".join(row[-1] for row in rows.fetchall())

        return await store.readers.read(explain)
    assert isinstance(store, PostgresStore)
    from chatd_server.store.postgres import statements as postgres  # noqa: PLC0415

    query, *arguments = postgres.CHILDREN(
        owner_id=ANN,
        below=9,
        include_archived=False,
        statuses=[],
        labels=[],
        parent_id="x",
        limit=9,
        bytes_max=9,
    )
    async with store.readers.use() as link:
        await link.execute("SET enable_seqscan = off")
        rows = await link.fetch("EXPLAIN " + query, *arguments)
        await link.execute("RESET enable_seqscan")
    return "\n".join(row[0] for row in rows)
