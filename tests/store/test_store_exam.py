"""The exam of every store: commands are whole, recorded, and told of; reads are current."""

import asyncio

import pytest
from msgspec import structs

from chatd_server.domain.chat import ChatConfig, Status
from chatd_server.domain.command import (
    BusyBehavior,
    DeleteQueued,
    UpdateChat,
)
from chatd_server.domain.ids import ChatId, MessageId
from chatd_server.domain.message import Text
from chatd_server.domain.refusal import (
    ChatBusy,
    ChatNotFound,
    RequestIdReused,
)
from chatd_server.ports.store import RequestKey, Store
from tests.store.conftest import Stores
from tests.store.desk import ANN, BOB, Desk, assert_gap_free, text_of

WEIRD = "NUL \x00 and \x1e, 👩\u200d💻, \u2028"


# --- commands ------------------------------------------------------------------------------


async def test_a_new_chat_is_loaded_as_it_was_answered(store: Store, desk: Desk) -> None:
    """What apply returns is what the database says."""
    command = desk.create_command(
        config=ChatConfig(title="t", model="sandbox/echo", labels={"a": "b"})
    )

    applied = await store.apply(command.chat_id, command)

    assert applied.state == await store.load(command.chat_id)
    assert applied.sequence == applied.state.head_sequence
    assert list(applied.events) == list(await desk.log(command.chat_id))
    assert text_of(applied) == "hello"
    assert applied.state.status is Status.PENDING


async def test_a_chat_without_a_message_waits(store: Store, desk: Desk) -> None:
    """CreateChat without a first message makes an idle chat."""
    chat_id = await desk.create("")

    assert (await store.load(chat_id)).status is Status.WAITING
    assert await desk.acquire() == []


async def test_each_transition_adds_one_revision_and_its_events(store: Store, desk: Desk) -> None:
    """Revisions count transitions, and the log has no gap."""
    state = await desk.running()
    state = await desk.answered(state)
    done = await desk.finish(state)

    loaded = await store.load(state.id)
    assert loaded.status is Status.WAITING
    assert loaded.revision == done.state.revision == 6
    assert loaded == done.state
    assert_gap_free(await desk.log(state.id), loaded)
    assert await desk.texts(state.id) == ["hello", "answer"]


async def test_a_refused_command_writes_nothing(store: Store, desk: Desk) -> None:
    """After a refusal revision, sequence and rows are what they were."""
    state = await desk.running()
    log = await desk.log(state.id)

    with pytest.raises(ChatBusy):
        await desk.send(state.id, "now", busy=BusyBehavior.REJECT)

    assert await store.load(state.id) == state
    assert await desk.log(state.id) == log
    assert await desk.texts(state.id) == ["hello"]


async def test_a_foreign_chat_is_not_found(store: Store, desk: Desk) -> None:
    """Another owner learns nothing, neither by reading nor by writing."""
    chat_id = await desk.create()
    before = await store.load(chat_id)

    with pytest.raises(ChatNotFound):
        await store.load(chat_id, BOB)
    with pytest.raises(ChatNotFound):
        await desk.send(chat_id, "hi", owner=BOB)

    assert await store.load(chat_id, ANN) == before


async def test_an_unknown_chat_is_not_found(store: Store, desk: Desk) -> None:
    """Every question about a chat that is not there has the same answer."""
    nowhere = ChatId("0191d5b4-0000-7000-8000-000000000000")

    with pytest.raises(ChatNotFound):
        await store.load(nowhere)
    with pytest.raises(ChatNotFound):
        await desk.send(nowhere, "hi")
    with pytest.raises(ChatNotFound):
        await store.events(nowhere, after=0, limit=1, bytes_max=1)
    with pytest.raises(ChatNotFound):
        await store.messages(nowhere, after_position=0, limit=1, bytes_max=1)
    state = structs.replace(await store.load(await desk.create()), id=nowhere)
    with pytest.raises(ChatNotFound):
        await store.messages_as_of(state, after_position=0)


async def test_nul_and_every_other_character_survive(store: Store, desk: Desk) -> None:
    """Content is bytes: no character of the user's is lost or changed, queued or not."""
    chat_id = await desk.create(WEIRD, config=ChatConfig(title=WEIRD, labels={WEIRD: WEIRD}))
    await desk.send(chat_id, WEIRD + "2")

    state = await store.load(chat_id)
    assert state.config.title == WEIRD
    assert state.queue[0].parts == (Text(WEIRD + "2"),)
    assert await desk.texts(chat_id) == [WEIRD]
    page = await store.list_chats(ANN, limit=10, labels={WEIRD: WEIRD})
    assert [chat.id for chat in page.chats] == [chat_id]


async def test_a_lone_surrogate_never_reaches_the_store(store: Store, desk: Desk) -> None:
    """Text that cannot travel is an error of the caller's, and nothing of it is written."""
    chat_id = await desk.create()
    before = await store.load(chat_id)

    with pytest.raises(UnicodeEncodeError):
        await desk.send(chat_id, "\ud800")

    assert await store.load(chat_id) == before
    assert (await desk.send(chat_id, "fine")).state.queue


# --- repeated commands ---------------------------------------------------------------------


async def test_a_repeated_worker_command_is_success_and_written_once(desk: Desk) -> None:
    """A worker that never heard of its commit sends the command again, with its old state."""
    started = await desk.start(await desk.running())
    first = await desk.answer(started)

    again = await desk.answer(started)

    assert again.replayed
    assert again.sequence == first.sequence
    assert again.state == first.state
    assert await desk.texts(started.id) == ["hello", "answer"]


async def test_a_repeated_request_gets_the_stored_answer(store: Store, desk: Desk) -> None:
    """The same request id with the same body is one request, whatever happened since."""
    chat_id = await desk.create()
    request = RequestKey("ann\x1fSendMessage\x1f1", b"body")
    first = await desk.send(chat_id, "queued", request=request)
    await desk.send(chat_id, "another")

    again = await desk.send(chat_id, "queued", request=request)

    assert again.replayed
    assert again.reply == first.reply
    assert again.sequence == first.sequence
    assert again.state.revision == first.state.revision
    assert [queued.id for queued in again.state.queue] == [
        queued.id for queued in first.state.queue
    ]
    assert len((await store.load(chat_id)).queue) == 2


async def test_a_repeated_request_gets_its_message_back(desk: Desk) -> None:
    """A stored answer names the message that entered the history, with its content."""
    chat_id = await desk.create("")
    request = RequestKey("ann\x1fSendMessage\x1f1", b"body")
    first = await desk.send(chat_id, WEIRD, request=request)

    again = await desk.send(chat_id, WEIRD, request=request)

    assert first.reply.message is not None
    assert again.reply == first.reply
    assert again.state == first.state


async def test_a_repeated_create_gets_the_first_chat(store: Store, desk: Desk) -> None:
    """CreateChat draws an id per call; a repeated request gets the chat of the first."""
    request = RequestKey("ann\x1fCreateChat\x1f1", b"body")
    first, second = desk.create_command(), desk.create_command()

    made = await store.apply(first.chat_id, first, request=request)
    again = await store.apply(second.chat_id, second, request=request)

    assert again.replayed
    assert again.state == made.state
    assert again.reply == made.reply
    assert (await store.list_chats(ANN, limit=10)).chats == (made.state,)


async def test_a_request_id_with_another_body_is_refused(store: Store, desk: Desk) -> None:
    """A request id is not for two requests; nothing is written."""
    chat_id = await desk.create()
    await desk.send(chat_id, "one", request=RequestKey("k", b"one"))
    before = await store.load(chat_id)

    with pytest.raises(RequestIdReused):
        await desk.send(chat_id, "two", request=RequestKey("k", b"two"))

    assert await store.load(chat_id) == before


async def test_a_refusal_is_not_stored(desk: Desk) -> None:
    """The same request is decided again: after a refusal it may succeed."""
    state = await desk.running()
    request = RequestKey("k", b"body")
    with pytest.raises(ChatBusy):
        await desk.send(state.id, "x", busy=BusyBehavior.REJECT, request=request)
    await desk.finish(await desk.answered(state))

    applied = await desk.send(state.id, "x", busy=BusyBehavior.REJECT, request=request)

    assert not applied.replayed
    assert applied.state.status is Status.PENDING


async def test_a_request_that_changed_nothing_is_remembered_too(store: Store, desk: Desk) -> None:
    """Success without a write is an answer: sent again later it still changes nothing."""
    chat_id = await desk.create("")
    request = RequestKey("k", b"delete")
    absent = DeleteQueued(command_id="d", message_id=MessageId("absent"))
    await store.apply(chat_id, absent, request=request)
    assert (await store.load(chat_id)).revision == 1

    again = await store.apply(chat_id, absent, request=request)

    assert again.replayed
    assert (await store.load(chat_id)).revision == 1


async def test_concurrent_duplicates_are_carried_out_once(store: Store, desk: Desk) -> None:
    """A duplicate that comes while the first is under way waits for it and gets its answer."""
    chat_id = await desk.create()
    request = RequestKey("k", b"body")

    answers = await asyncio.gather(*(desk.send(chat_id, "once", request=request) for _ in range(8)))

    assert sum(not applied.replayed for applied in answers) == 1
    assert {applied.sequence for applied in answers} == {answers[0].sequence}
    assert len((await store.load(chat_id)).queue) == 1


async def test_old_command_records_are_pruned_and_young_ones_kept(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A request id counts for as long as its record is kept."""
    chat_id = await desk.create()
    await desk.send(chat_id, "old", request=RequestKey("old", b"b"))
    await stores.clock.advance(3600)
    border = stores.clock.now()
    await desk.send(chat_id, "young", request=RequestKey("young", b"b"))

    assert await store.prune_commands(border) == 2
    assert await store.prune_commands(border) == 0

    assert (await desk.send(chat_id, "young", request=RequestKey("young", b"b"))).replayed
    assert not (await desk.send(chat_id, "old", request=RequestKey("old", b"b"))).replayed


# --- who is told ---------------------------------------------------------------------------


async def test_commits_are_told_in_order_before_their_callers_know(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A listener hears of a commit before its caller does, and a hint goes out for each."""
    command = desk.create_command()

    applied = await store.apply(command.chat_id, command)
    assert [told.sequence for told in stores.heard.commits] == [applied.sequence]

    await asyncio.gather(*(desk.send(command.chat_id, str(n)) for n in range(20)))
    told = [commit.state.revision for commit in stores.heard.commits]
    assert told == list(range(1, 22))
    assert [revision for _, revision, _ in stores.hints.hints] == told


async def test_a_replay_and_a_refusal_are_not_told(stores: Stores, desk: Desk) -> None:
    """Listeners hear of what was written now, and of nothing else."""
    chat_id = await desk.create()
    await desk.send(chat_id, "x", request=RequestKey("k", b"b"))
    told = len(stores.heard.commits)

    await desk.send(chat_id, "x", request=RequestKey("k", b"b"))
    with pytest.raises(ChatBusy):
        await desk.send(chat_id, "x", busy=BusyBehavior.REJECT)
    with pytest.raises(ChatNotFound):
        await desk.send(chat_id, "x", owner=BOB)

    assert len(stores.heard.commits) == told == len(stores.hints.hints)


async def test_a_cancelled_caller_does_not_cancel_the_write(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A command that was handed over is carried out to its end."""
    chat_id = await desk.create()
    sending = asyncio.ensure_future(desk.send(chat_id, "handed over"))
    await asyncio.sleep(0)  # noqa: TID251  one turn of the loop, no time

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await desk.send(chat_id, "after it")

    queue = (await store.load(chat_id)).queue
    assert [queued.parts for queued in queue] == [(Text("handed over"),), (Text("after it"),)]
    assert len(stores.heard.commits) == 3


async def test_a_read_sees_every_acknowledged_write(store: Store, desk: Desk) -> None:
    """Once a caller knows of its commit, nobody reads a state from before."""
    chat_id = await desk.create()

    for n in range(50):
        applied = await desk.send(chat_id, "x") if n < 40 else await desk.edit(chat_id, n - 39, "y")
        assert await store.load(chat_id) == applied.state


# --- many at once --------------------------------------------------------------------------


async def test_sixteen_writers_on_one_chat_leave_no_gap(store: Store, desk: Desk) -> None:
    """Writers of one chat take turns: every success has its revision and its events."""
    chat_id = await desk.create("")

    async def writer(name: int) -> None:
        for n in range(25):
            title = f"{name}.{n}"
            await store.apply(chat_id, UpdateChat(command_id=f"u{title}", title=title))

    await asyncio.gather(*(writer(name) for name in range(16)))

    state = await store.load(chat_id)
    assert state.revision == 1 + 16 * 25
    assert_gap_free(await desk.log(chat_id), state)


async def test_sixteen_writers_on_two_hundred_chats_leave_no_gap(store: Store, desk: Desk) -> None:
    """Writers of different chats do not disturb each other."""
    chats = await asyncio.gather(*(desk.create("") for _ in range(200)))

    async def writer(name: int) -> None:
        for n, chat_id in enumerate(chats):
            title = f"{name}.{n}"
            await store.apply(chat_id, UpdateChat(command_id=f"u{title}", title=title))

    await asyncio.gather(*(writer(name) for name in range(16)))

    for chat_id in chats:
        state = await store.load(chat_id)
        assert state.revision == 17
        assert_gap_free(await desk.log(chat_id), state)


async def test_everything_is_there_after_a_restart(stores: Stores, desk: Desk) -> None:
    """What was acknowledged is in the database, and nothing else decides."""
    state = await desk.running()
    await desk.send(state.id, "queued")
    state = await desk.answered(await desk.store.load(state.id))
    done = await desk.finish(state)
    log = await desk.log(state.id)

    again = Desk(await stores.reopen(desk.store), stores.clock)

    assert await again.store.load(state.id) == done.state
    assert await again.log(state.id) == log
    assert await again.texts(state.id) == ["hello", "answer", "queued"]
    assert await again.store.is_reachable()
