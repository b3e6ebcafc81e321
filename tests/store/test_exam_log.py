"""The exam of every store: the log, pages, snapshots and lists."""

import itertools
from collections.abc import Sequence

import pytest

from chatd_server.domain.chat import AttemptKind, ChatConfig, ChatState, Status
from chatd_server.domain.command import UpdateChat
from chatd_server.domain.event import LoggedEvent, MessageCommitted
from chatd_server.domain.ids import MICROSECONDS, ChatId
from chatd_server.domain.limits import KIB, RESPONSE_BYTES_MAX, TOOL_RESULT_BYTES_MAX
from chatd_server.domain.message import Message, Text
from chatd_server.domain.refusal import CursorAhead, CursorExpired
from chatd_server.ports.store import Store
from tests.store.conftest import Stores
from tests.store.desk import ANN, BOB, Desk, assert_gap_free


async def _talk(desk: Desk, turns: int, text: str = "words") -> ChatId:
    """Make a chat with that many turns of a user's message and an answer."""
    state = await desk.running(text)
    for turn in range(turns):
        done = await desk.finish(await desk.answered(state, f"{text} {turn}"))
        if turn < turns - 1:
            await desk.send(done.state.id, text)
            (acquired,) = await desk.acquire()
            state = acquired.state
    return state.id


# --- events --------------------------------------------------------------------------------


async def test_events_come_in_pages_without_gap_or_duplicate(store: Store, desk: Desk) -> None:
    """Pages by number, one after the other, are the log."""
    state = await desk.running()
    await desk.finish(await desk.answered(state))
    whole = await desk.log(state.id)
    assert_gap_free(whole, await store.load(state.id))

    paged: list[LoggedEvent] = []
    while True:
        page = await store.events(state.id, after=len(paged), limit=2, bytes_max=1 << 20)
        assert (page.oldest_sequence, page.head_sequence) == (1, len(whole))
        if not page.events:
            break
        assert len(page.events) <= 2
        paged += page.events

    assert paged == list(whole)


async def test_a_page_of_events_is_bounded_by_bytes(store: Store, desk: Desk) -> None:
    """Large messages make small pages; a page has at least one event, however large."""
    state = await desk.running("x" * 50 * KIB)
    await desk.finish(await desk.answered(state, "y" * 50 * KIB))
    head = (await store.load(state.id)).head_sequence

    after, sizes = 0, []
    while after < head:
        page = await store.events(state.id, after=after, limit=100, bytes_max=60 * KIB)
        sizes.append(sum(logged.message is not None for logged in page.events))
        after = page.events[-1].sequence
    assert max(sizes) == 1

    tiny = await store.events(state.id, after=0, limit=100, bytes_max=1)
    assert len(tiny.events) == 1


async def test_a_cursor_beyond_the_head_is_refused_with_the_ends_of_the_log(
    store: Store, desk: Desk
) -> None:
    """Nobody can have seen what was not written yet; at the head there is just nothing new."""
    chat_id = await desk.create()
    head = (await store.load(chat_id)).head_sequence

    assert (await store.events(chat_id, after=head, limit=9, bytes_max=9)).events == ()
    with pytest.raises(CursorAhead) as refused:
        await store.events(chat_id, after=head + 1, limit=9, bytes_max=9)

    assert refused.value.metadata == {"oldest_sequence": "1", "head_sequence": str(head)}


async def test_pruned_events_make_a_cursor_expire(stores: Stores, store: Store, desk: Desk) -> None:
    """Retention moves the beginning of the log, and a cursor from before is told so."""
    chat_id = await desk.create()
    old = (await store.load(chat_id)).head_sequence
    await stores.clock.advance(3600)
    border = stores.clock.now()
    applied = await desk.send(chat_id, "young")

    assert await store.prune_events(border) == old
    assert await store.prune_events(border) == 0

    state = await store.load(chat_id)
    assert (state.oldest_sequence, state.revision) == (old + 1, applied.state.revision)
    with pytest.raises(CursorExpired) as refused:
        await store.events(chat_id, after=old - 1, limit=9, bytes_max=9)
    assert refused.value.metadata["oldest_sequence"] == str(old + 1)
    page = await store.events(chat_id, after=old, limit=9, bytes_max=1 << 20)
    assert page.events[0].sequence == old + 1
    assert await desk.texts(chat_id) == ["hello"]


async def test_a_wholly_pruned_log_goes_on_where_it_was(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Also with no event left the numbers go on, and a cursor at the head is good."""
    chat_id = await desk.create()
    head = (await store.load(chat_id)).head_sequence
    await stores.clock.advance(3600)

    assert await store.prune_events(stores.clock.now()) == head

    assert (await store.events(chat_id, after=head, limit=9, bytes_max=9)).events == ()
    await desk.send(chat_id, "more")
    page = await store.events(chat_id, after=head, limit=9, bytes_max=1 << 20)
    assert page.events[0].sequence == head + 1
    assert page.oldest_sequence == head + 1


async def test_many_chats_are_pruned_in_one_call(stores: Stores, store: Store, desk: Desk) -> None:
    """The chore goes through all chats, in jobs that let others write in between."""
    chats = [await desk.create() for _ in range(250)]
    heads = [(await store.load(chat_id)).head_sequence for chat_id in chats]
    await stores.clock.advance(60)

    assert await store.prune_events(stores.clock.now()) == sum(heads)

    for chat_id, head in zip(chats, heads, strict=True):
        assert (await store.load(chat_id)).oldest_sequence == head + 1


# --- messages and snapshots ----------------------------------------------------------------


async def test_messages_come_in_pages(store: Store, desk: Desk) -> None:
    """Pages by number or by bytes, one after the other, are the history."""
    chat_id = await _talk(desk, 3)
    whole, more = await store.messages(chat_id, after_position=0, limit=99, bytes_max=1 << 20)
    assert len(whole) == 6
    assert not more

    for limit, bytes_max in ((2, 1 << 20), (99, 1)):
        paged: list[Message] = []
        more = True
        while more:
            after = paged[-1].position if paged else 0
            page, more = await store.messages(
                chat_id, after_position=after, limit=limit, bytes_max=bytes_max
            )
            assert len(page) == (2 if limit == 2 else 1)
            paged += page
        assert paged == list(whole)


async def _pages(store: Store, state: ChatState, after: int = 0) -> list[Sequence[Message]]:
    """Return the pages of a chat as it was at a state."""
    pages: list[Sequence[Message]] = []
    more = True
    while more:
        page, more = await store.messages_as_of(state, after_position=after)
        pages.append(page)
        after = page[-1].position
    return pages


async def test_a_snapshot_is_one_moment_whatever_happens_meanwhile(
    store: Store, desk: Desk
) -> None:
    """Between two pages of a snapshot an edit removes all of it: the snapshot does not change."""
    text = "z" * 200 * KIB
    chat_id = await _talk(desk, 3, text)
    before = await desk.texts(chat_id)

    state = await store.load(chat_id)
    first, more = await store.messages_as_of(state, after_position=0)
    assert more
    edited = await desk.edit(chat_id, 1, "everything is new")
    seen = [*first, *itertools.chain(*await _pages(store, state, first[-1].position))]

    assert [part.text for m in seen for part in m.parts if isinstance(part, Text)] == before
    assert [m.sequence <= state.head_sequence for m in seen] == [True] * 6
    assert [len(page) for page in await _pages(store, edited.state)] == [1]


async def test_pages_of_a_snapshot_are_small_enough_for_one_response(
    store: Store, desk: Desk
) -> None:
    """Half a response per page, or one message."""
    chat_id = await _talk(desk, 2, "z" * 200 * KIB)
    await desk.send(chat_id, "q" * RESPONSE_BYTES_MAX)

    pages = await _pages(store, await store.load(chat_id))

    assert [len(page) for page in pages] == [2, 2, 1]


async def test_a_snapshot_of_an_empty_chat_has_no_page(store: Store, desk: Desk) -> None:
    """A chat without messages has a state and nothing else."""
    chat_id = await desk.create("")

    state = await store.load(chat_id)

    assert await store.messages_as_of(state, after_position=0) == ([], False)


# --- lists ---------------------------------------------------------------------------------


async def test_chats_are_listed_newest_first_in_pages_of_their_owner(
    store: Store, desk: Desk
) -> None:
    """Pages one after another are all chats of one owner, and of no other."""
    mine = [await desk.create(f"{n}") for n in range(7)]
    await desk.create(owner=BOB)

    listed, key = [], None
    while True:
        page = await store.list_chats(ANN, limit=3, after_key=key)
        listed += [chat.id for chat in page.chats]
        assert len(page.chats) <= 3
        key = page.next_key
        if key is None:
            break

    assert listed == mine[::-1]


async def test_the_list_of_chats_can_be_narrowed(store: Store, desk: Desk) -> None:
    """By labels, all of which must match, and by status."""
    await desk.create("", config=ChatConfig(labels={"team": "red"}))
    both = await desk.create("", config=ChatConfig(labels={"team": "red", "n": "1"}))
    busy = await desk.create("work", config=ChatConfig(labels={"n": "1"}))

    async def found(
        labels: dict[str, str] | None = None, statuses: tuple[Status, ...] = ()
    ) -> list[str]:
        page = await store.list_chats(ANN, limit=9, labels=labels, statuses=statuses)
        return [chat.id for chat in page.chats]

    assert await found({"team": "red", "n": "1"}) == [both]
    assert await found({"n": "1"}) == [busy, both]
    assert await found({"team": "re"}) == []
    assert await found(statuses=(Status.PENDING, Status.RUNNING)) == [busy]


async def test_actions_are_listed_oldest_first_in_pages(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Only chats that wait for the client are listed, with what was answered already."""
    asking = []
    for n in range(3):
        asking.append((await desk.asking(f"c{n}")).id)
        await stores.clock.advance(1)
    await desk.create()

    first = await store.list_actions(ANN, limit=2)
    second = await store.list_actions(ANN, limit=2, after_key=first.next_key)

    assert [chat.id for chat in (*first.chats, *second.chats)] == asking
    assert second.next_key is None
    assert first.chats[0].calls[0].id == "c0"
    (one,) = (await store.list_actions(ANN, limit=2, chat_id=first.chats[1].id)).chats
    assert one.id == asking[1]
    assert (await store.list_actions(BOB, limit=2)).chats == ()


async def test_a_title_of_another_chat_changes_no_list_order(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Newest first means made last: an update moves nothing, so pages do not skip."""
    old = await desk.create("")
    new = await desk.create("")
    await stores.clock.advance(5)
    await store.apply(old, UpdateChat(command_id="u", title="touched"))

    page = await store.list_chats(ANN, limit=9)

    assert [chat.id for chat in page.chats] == [new, old]
    assert page.chats[1].updated_at == page.chats[0].updated_at + 5 * MICROSECONDS


async def test_a_replay_says_which_message_closes_a_batch_as_the_commit_did(desk: Desk) -> None:
    """Results that are followed by more of the same batch close nothing, now and later."""
    state = await desk.running()
    calls = [desk.call(f"call-{n}") for n in range(3)]
    state = await desk.answered(state, calls=calls)
    state = await desk.start(state, AttemptKind.TOOLS)
    results = [desk.result(it.id, "x" * TOOL_RESULT_BYTES_MAX) for it in calls]
    done = await desk.results(state, *results)

    told = [logged.event for logged in done.events]
    closes = [bool(it.attempt_id) for it in told if isinstance(it, MessageCommitted)]
    assert closes == [False, False, True]
    log = await desk.log(state.id)
    assert tuple(log[-len(done.events) :]) == done.events
