"""Large things on the shared store: neither the driver nor we have all of one in one go."""

import threading
from collections.abc import Sequence

import asyncpg
import pytest

from chatd_server.domain.chat import ChatConfig, ChatState
from chatd_server.domain.command import SubmittedResult, SubmitToolResults
from chatd_server.domain.ids import ChatId, ToolCallId
from chatd_server.domain.limits import (
    KIB,
    PAGE_BYTES_MAX,
    RESULTS_MESSAGE_BYTES_MAX,
    TOOL_RESULT_BYTES_MAX,
    USER_MESSAGE_BYTES_MAX,
)
from chatd_server.domain.machine.calls import waiting_calls
from chatd_server.ports.store import RequestKey
from chatd_server.store.postgres.deciding import decide
from chatd_server.store.postgres.pieces import PIECE_BYTES, in_pieces
from chatd_server.store.postgres.statements import INSERT_MESSAGES, INSERT_OUTCOMES
from chatd_server.store.postgres.store import PostgresStore
from tests.store.conftest import PostgresStores
from tests.store.desk import ANN, LEASE_SECONDS, W2, Desk, assert_gap_free
from tests.store.weighing import Beside, Measured, PiecesClock, Weighed, weighed_link

LARGE = "x" * (USER_MESSAGE_BYTES_MAX - KIB)
CALLS = ("a", "b", "c", "d")
BESIDE = 32 * KIB
"""Room for ids, events and states besides the contents."""
SECOND_PIECE = INSERT_MESSAGES.text[:40]
"""How the statement begins that writes what did not fit the first one."""


@pytest.fixture
def stores(replicas: PostgresStores) -> PostgresStores:
    """Take the shared store alone."""
    return replicas


@pytest.fixture
async def weighed(store: PostgresStore) -> Weighed:
    """Give the one connection that the store uses from now on."""
    return await weighed_link(store)


def submitted(desk: Desk, *call_ids: str, output: str = "y") -> SubmitToolResults:
    """Return the command that hands in the largest results."""
    results = tuple(
        SubmittedResult(ToolCallId(it), output * TOOL_RESULT_BYTES_MAX, is_json=False)
        for it in call_ids
    )
    return SubmitToolResults(command_id=desk.id(), results=results, allow_partial=True)


async def queued(desk: Desk, count: int) -> ChatId:
    """Make a chat that is worked on, with the largest messages in its queue."""
    state = await desk.running()
    for number in range(count):
        await desk.send(state.id, f"{number}{LARGE}")
    return state.id


async def next_turn(desk: Desk, chat_id: ChatId) -> None:
    """End the open turn, so that the head of the queue begins the next one."""
    await desk.finish(await desk.answered(await desk.store.load(chat_id)))


async def journaled(desk: Desk, calls: Sequence[str] = CALLS) -> ChatState:
    """Make a chat whose calls all have the largest outcome in the journal."""
    state = await desk.answered(await desk.running(), calls=[desk.call(it) for it in calls])
    state = await desk.begin(state, *calls)
    for it in calls:
        await desk.finish_call(state, it, "y" * TOOL_RESULT_BYTES_MAX)
    return state


# --- a piece ------------------------------------------------------------------------------


def test_pieces_have_all_items_in_order() -> None:
    """A piece has at most its bytes, or one item."""
    items = [3, 3, 4, 11, 1, 9, 1]
    assert list(in_pieces(items, lambda it: it, 10)) == [[3, 3, 4], [11], [1, 9], [1]]
    assert list(in_pieces([], len)) == []


# --- what is read -------------------------------------------------------------------------


async def test_a_large_queue_is_loaded_in_pieces(
    store: PostgresStore, desk: Desk, weighed: Weighed
) -> None:
    """All contents are there, in order, and no row had more than a piece of them."""
    chat_id = await queued(desk, 5)
    weighed.row = 0
    state = await store.load(chat_id, ANN)
    texts = [it.parts[0].text[0] for it in state.queue]  # type: ignore[union-attr]
    assert texts == ["0", "1", "2", "3", "4"]
    assert PIECE_BYTES // 2 < weighed.row <= PIECE_BYTES + BESIDE


async def test_what_is_read_in_pieces_is_as_of_one_revision(
    replicas: PostgresStores, store: PostgresStore, desk: Desk, weighed: Weighed
) -> None:
    """Messages leave the queue before their contents are read, and are read all the same."""
    chat_id = await queued(desk, 3)
    other = Desk(await replicas.open(), replicas.clock)
    before = await store.load(chat_id)

    async def two_turns() -> None:
        await next_turn(other, chat_id)
        await other.acquire()
        await next_turn(other, chat_id)

    weighed.before = ("FROM queued_messages\n", two_turns)
    state = await store.load(chat_id)

    assert weighed.has_happened
    assert state == before
    assert len((await other.store.load(chat_id)).queue) == 1


async def test_a_chat_is_locked_while_it_is_read_in_pieces_to_decide(
    replicas: PostgresStores, desk: Desk, weighed: Weighed, stranger: asyncpg.Connection
) -> None:
    """What another server does with it meanwhile waits, and is done."""
    chat_id = await queued(desk, 3)
    other = Desk(await replicas.open(), replicas.clock)
    beside = Beside(stranger, lambda: next_turn(other, chat_id))
    weighed.row = 0
    weighed.before = ("FROM queued_messages\n", beside.begin)

    applied = await desk.send(chat_id, "last")
    await beside.task

    assert weighed.row <= PIECE_BYTES + BESIDE
    assert len(applied.state.queue) == 4
    assert len((await other.store.load(chat_id)).queue) == 3


async def test_kept_results_are_read_in_pieces_to_decide(
    replicas: PostgresStores,
    store: PostgresStore,
    desk: Desk,
    weighed: Weighed,
    stranger: asyncpg.Connection,
) -> None:
    """Those that another server hands in meanwhile are not lost."""
    state = await desk.asking(*CALLS, "e")
    await store.apply(state.id, submitted(desk, *CALLS[:3]), owner_id=ANN)
    other = Desk(await replicas.open(), replicas.clock)
    last = submitted(other, "d")
    beside = Beside(stranger, lambda: other.store.apply(state.id, last, owner_id=ANN))
    weighed.row = 0
    weighed.before = ("FROM tool_journal\n", beside.begin)

    await store.apply(state.id, submitted(desk, "e"), owner_id=ANN)
    await beside.task

    assert weighed.row <= PIECE_BYTES + BESIDE
    log = await other.log(state.id)
    results = [it for logged in log if logged.message for it in logged.message.results]
    assert [it.call_id for it in results] == [*CALLS, "e"]
    assert {len(it.output) for it in results} == {TOOL_RESULT_BYTES_MAX}


async def test_a_repeated_request_is_told_without_the_queue(desk: Desk, weighed: Weighed) -> None:
    """Its answer stands in the record; of the chat of now only the config is needed."""
    chat_id = await queued(desk, 3)
    request = RequestKey("request", b"body")
    first = await desk.send(chat_id, LARGE, request=request)
    weighed.row = 0
    again = await desk.send(chat_id, LARGE, request=request)
    assert again.replayed
    assert (again.sequence, again.reply, again.state.config) == (
        first.sequence,
        first.reply,
        first.state.config,
    )
    assert weighed.row <= PIECE_BYTES + USER_MESSAGE_BYTES_MAX + BESIDE


async def test_a_list_of_large_chats_asks_for_one_page(
    store: PostgresStore, desk: Desk, weighed: Weighed
) -> None:
    """A page ends by bytes, and the next one continues after it."""
    size = PAGE_BYTES_MAX // 4
    made = [await desk.create(config=ChatConfig(system_prompt="p" * size)) for _ in range(10)]
    pages: list[list[ChatId]] = []
    key: str | None = None
    while key is not None or not pages:
        page = await store.list_chats(ANN, limit=9, after_key=key)
        pages.append([it.id for it in page.chats])
        key = page.next_key
    assert [len(it) for it in pages] == [4, 4, 2]
    assert [it for page in pages for it in page] == made[::-1]
    assert weighed.answer <= PAGE_BYTES_MAX + size + BESIDE


async def test_a_list_of_actions_leaves_kept_results_and_configs_in_the_database(
    store: PostgresStore, desk: Desk, weighed: Weighed
) -> None:
    """It shows which calls still wait, and nothing of the others."""
    state = await desk.asking("a", "b")
    await store.apply(state.id, submitted(desk, "a"), owner_id=ANN)
    weighed.answer = 0
    (listed,) = (await store.list_actions(ANN, limit=10)).chats
    assert waiting_calls(listed.calls) == ("b",)
    assert weighed.answer <= BESIDE


async def test_long_pages_and_contexts_let_others_have_their_turn(
    store: PostgresStore, desk: Desk
) -> None:
    """What is read at once is decoded a piece at a time, and what is small without a wait."""
    small = await desk.running()
    clock = store._clock = PiecesClock()
    store._sweeper._env = store._sweeper._env._replace(clock=clock)
    await desk.log(small.id)
    await desk.texts(small.id)
    await store.list_chats(ANN, limit=10)
    assert not clock.turns

    config = ChatConfig(system_prompt=LARGE)
    chat_ids = [await desk.create(LARGE, config=config) for _ in range(4)]
    contexts = await desk.acquire(slots=4)
    assert clock.turns == {"postgres.piece": 3 + 3}, "states, then contexts"
    assert [it.state.id for it in contexts] == chat_ids
    clock.turns.clear()
    listed = await store.list_chats(ANN, limit=10)
    assert clock.turns == {"postgres.piece": 3}
    assert [it.id for it in listed.chats] == [*chat_ids[::-1], small.id]


# --- what is written ----------------------------------------------------------------------


async def test_a_message_of_more_than_a_piece_is_encoded_and_sent_in_two_turns(
    store: PostgresStore, desk: Desk
) -> None:
    """A character that JSON escapes takes six bytes, so one message may be 3 MiB."""
    small, large = await desk.create(""), await desk.create("")
    clock = PiecesClock()
    store._applier._env = store._applier._env._replace(clock=clock)
    await desk.send(small, "small")
    assert not clock.turns
    await desk.send(large, "\x00" * USER_MESSAGE_BYTES_MAX)
    assert clock.turns == {"postgres.piece": 1}


async def test_results_are_written_in_pieces_and_in_one_transaction(
    replicas: PostgresStores, desk: Desk, weighed: Weighed
) -> None:
    """Nobody sees some of them, and no statement carries more than a piece and a message."""
    calls = [f"call {number}" for number in range(6)]
    state = await journaled(desk, calls)
    other = Desk(await replicas.open(), replicas.clock)
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(await other.log(state.id)))

    before = len(await other.log(state.id))
    weighed.arguments = 0
    weighed.before = (SECOND_PIECE, look)
    large = "y" * TOOL_RESULT_BYTES_MAX
    applied = await desk.results(state, *(desk.result(it, large) for it in calls))

    assert weighed.arguments <= PIECE_BYTES + RESULTS_MESSAGE_BYTES_MAX + BESIDE
    assert weighed.has_happened
    assert seen == [before]
    log = await other.log(state.id)
    assert list(applied.events) == list(log[before:])
    assert_gap_free(log, applied.state)


async def test_large_results_are_measured_off_the_event_loop(desk: Desk) -> None:
    """How many bytes 16 MiB of text have takes no moment; what is small is decided at once."""
    state = await desk.asking("a")
    for size, is_beside in ((2 * PIECE_BYTES, True), (10, False)):
        Measured.threads.clear()
        result = SubmittedResult(ToolCallId("a"), Measured("y" * size), is_json=False)
        command = SubmitToolResults(command_id=desk.id(), results=(result,))
        transition = await decide(state, command, desk.clock.now())
        assert len(transition.messages[0].results[0].output) == size
        assert len(Measured.threads) == 1
        assert (threading.get_ident() not in Measured.threads) is is_beside


async def test_kept_results_are_written_in_pieces_and_in_one_transaction(
    replicas: PostgresStores, store: PostgresStore, desk: Desk, weighed: Weighed
) -> None:
    """Characters that JSON escapes are six times as large there."""
    state = await desk.asking("a", "b", "c")
    other = Desk(await replicas.open(), replicas.clock)
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(waiting_calls((await other.store.load(state.id)).calls)))

    weighed.arguments = 0
    weighed.before = (INSERT_OUTCOMES.text[:40], look)
    await store.apply(state.id, submitted(desk, "a", "b", output="\0"), owner_id=ANN)

    assert weighed.arguments <= 6 * TOOL_RESULT_BYTES_MAX + BESIDE
    assert weighed.has_happened
    assert seen == [3]
    kept = (await other.store.load(state.id)).calls
    assert [None if it.outcome is None else set(it.outcome.output) for it in kept] == [
        {"\0"},
        {"\0"},
        None,
    ]


async def test_a_write_that_is_cut_between_two_pieces_is_whole_all_the_same(
    store: PostgresStore, desk: Desk
) -> None:
    """The transaction goes with the connection, and what was not written is written again."""
    state = await journaled(desk)
    link = Weighed(store.writers._free[-1])

    async def cut() -> None:
        link.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")

    link.before = (SECOND_PIECE, cut)
    store.writers._free[-1] = link
    large = "y" * TOOL_RESULT_BYTES_MAX
    applied = await desk.results(state, *(desk.result(it, large) for it in CALLS))

    assert link.has_happened
    log = await desk.log(state.id)
    assert_gap_free(log, applied.state)
    results = [it for logged in log if logged.message for it in logged.message.results]
    assert [it.call_id for it in results] == list(CALLS)


async def test_a_rescue_takes_outcomes_a_piece_at_a_time(
    stores: PostgresStores, store: PostgresStore, desk: Desk, weighed: Weighed
) -> None:
    """Several chats with the largest journals: one transaction, and nothing large at once."""
    states = [await journaled(desk) for _ in range(2)]
    await stores.clock.advance(LEASE_SECONDS + 1)
    weighed.row = weighed.arguments = 0

    assert await store.rescue(W2, 10) == 2

    assert weighed.row <= PIECE_BYTES + BESIDE
    assert weighed.arguments <= PIECE_BYTES + RESULTS_MESSAGE_BYTES_MAX + BESIDE
    for state in states:
        loaded = await store.load(state.id)
        assert_gap_free(await desk.log(state.id), loaded)
