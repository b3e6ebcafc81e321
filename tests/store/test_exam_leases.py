"""The exam of every store: leases, heartbeats, the tool journal, deadlines."""

import asyncio

import pytest

from chatd_server.domain.chat import AttemptKind, ChatState, Status
from chatd_server.domain.command import BusyBehavior, Fail, Release, ScheduleRetry
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import MICROSECONDS, ChatId
from chatd_server.domain.message import Executor, ToolErrorKind, ToolResult
from chatd_server.domain.refusal import LeaseLost, NotWaitingForAction
from chatd_server.ports.store import Store
from tests.store.conftest import Stores
from tests.store.desk import LEASE_SECONDS, W1, W2, Desk, assert_gap_free


async def _results(desk: Desk, chat_id: ChatId) -> dict[str, ToolResult]:
    log = await desk.log(chat_id)
    return {
        result.call_id: result
        for logged in log
        if logged.message is not None
        for result in logged.message.results
    }


def _fail(state: ChatState) -> Fail:
    error = ChatError(ErrorKind.AUTH, "no key")
    return Fail(command_id=f"fail:{state.id}", worker_id=W1, epoch=state.epoch, error=error)


# --- acquire -------------------------------------------------------------------------------


async def test_acquire_gives_all_that_a_turn_needs(store: Store, desk: Desk) -> None:
    """The holder gets the state with its lease, and the messages of the context."""
    chat_id = await desk.create("hello")

    (acquired,) = await desk.acquire(W1)

    assert acquired.state == await store.load(chat_id)
    assert acquired.state.status is Status.RUNNING
    assert acquired.state.lease is not None
    assert acquired.state.lease.worker_id == W1
    assert [message.position for message in acquired.messages] == [1]


@pytest.mark.parametrize("sizes", [(1, 1), (1, 5_000, 1), (1,) * 20])
async def test_acquire_gives_contexts_of_every_length(
    store: Store, desk: Desk, sizes: tuple[int, ...]
) -> None:
    """Short ones, with a long message, and of many messages, in the order of the chats; nothing
    that was removed.
    """
    chats = [await desk.create("first"), await desk.create("alone"), await desk.create("last")]
    first, _, last = chats
    for size in sizes:
        await desk.send(first, "x" * size, busy=BusyBehavior.INTERRUPT)
        await desk.send(last, "x" * size, busy=BusyBehavior.INTERRUPT)
    await desk.edit(last, 2, "edited")

    acquired = await desk.acquire(slots=3)

    assert {it.state.id for it in acquired} == set(chats)
    for one in acquired:
        page, more = await store.messages(
            one.state.id, after_position=0, limit=50, bytes_max=1_000_000
        )
        assert not more
        assert list(one.messages) == list(page)
    assert [len(it.messages) for it in acquired if it.state.id == first] == [1 + len(sizes)]
    assert [len(it.messages) for it in acquired if it.state.id == last] == [2]


async def test_acquire_begins_the_model_call_that_is_owed(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """By the same commit: one is told, with an attempt that stands at the head of the log."""
    await desk.create("hello")
    told = len(stores.heard.commits)

    (acquired,) = await desk.acquire()

    turn = acquired.state.turn
    assert turn is not None
    assert turn.attempt is not None
    assert turn.attempt.kind is AttemptKind.MODEL
    assert turn.attempt.number == 1
    assert turn.attempt.base_sequence == acquired.state.head_sequence
    assert len(stores.heard.commits) == told + 1
    assert stores.heard.commits[-1].state == acquired.state == await store.load(acquired.state.id)
    await desk.answer(acquired.state)


async def test_acquire_begins_no_model_call_while_calls_are_open(desk: Desk) -> None:
    """Tools come first, and what they are is the worker's to say."""
    state = await desk.answered(await desk.running(), calls=[desk.call("a")])
    await desk.store.apply(state.id, Release(command_id="r", worker_id=W1, epoch=state.epoch))

    (acquired,) = await desk.acquire()

    assert acquired.state.turn is not None
    assert acquired.state.turn.attempt is None


async def test_acquire_of_a_rescued_chat_begins_an_attempt_of_its_own(
    stores: Stores, desk: Desk
) -> None:
    """That of the dead worker is void, whatever it still says."""
    state = await desk.running()
    await stores.clock.advance(LEASE_SECONDS + 1)
    assert await desk.store.rescue(W2, 1) == 1

    (again,) = await desk.acquire()

    assert state.turn is not None
    assert again.state.turn is not None
    assert state.turn.attempt is not None
    assert again.state.turn.attempt is not None
    assert again.state.turn.attempt.id != state.turn.attempt.id
    with pytest.raises(LeaseLost):
        await desk.answer(state)
    await desk.answer(again.state)


async def test_acquire_of_an_interrupted_chat_begins_nothing(stores: Stores, desk: Desk) -> None:
    """Its new worker only ends the turn."""
    state = await desk.running()
    await desk.interrupt(state.id)
    await stores.clock.advance(LEASE_SECONDS + 1)
    assert await desk.store.rescue(W2, 1) == 1

    (again,) = await desk.acquire()

    assert again.state.status is Status.INTERRUPTING
    assert again.state.turn is not None
    assert again.state.turn.attempt is None


async def test_acquire_gives_a_chat_to_one_worker_only(desk: Desk) -> None:
    """Workers that ask at the same time never get the same chat."""
    chats = {await desk.create() for _ in range(30)}

    taken = await asyncio.gather(
        *(desk.acquire(worker, 4) for _ in range(10) for worker in (W1, W2))
    )

    ids = [acquired.state.id for some in taken for acquired in some]
    assert len(ids) == len(set(ids))
    assert set(ids) == chats


async def test_acquire_takes_the_oldest_work_first_and_no_more_than_asked(
    stores: Stores, desk: Desk
) -> None:
    """Work is taken in the order in which it came."""
    chats = []
    for _ in range(4):
        chats.append(await desk.create())
        await stores.clock.advance(1)

    first = await desk.acquire(slots=3)

    assert [acquired.state.id for acquired in first] == chats[:3]
    assert [acquired.state.id for acquired in await desk.acquire(slots=3)] == chats[3:]


async def test_acquire_leaves_out_removed_messages(desk: Desk) -> None:
    """The context is what stands."""
    state = await desk.running("first")
    await desk.finish(await desk.answered(state))
    await desk.edit(state.id, 1, "second")

    (acquired,) = await desk.acquire()

    assert [message.role for message in acquired.messages] == ["user"]
    assert acquired.messages[0].position == 3


async def test_a_released_chat_is_taken_again_with_a_new_epoch(store: Store, desk: Desk) -> None:
    """A leaving worker gives its chat back; the next holder fences it."""
    state = await desk.running()
    release = Release(command_id="r", worker_id=W1, epoch=state.epoch)
    await store.apply(state.id, release, known=state)

    (again,) = await desk.acquire(W2)

    assert again.state.epoch == state.epoch + 1
    with pytest.raises(LeaseLost):
        await desk.start(state)


# --- leases --------------------------------------------------------------------------------


async def test_a_stale_epoch_is_lease_lost_and_writes_nothing(store: Store, desk: Desk) -> None:
    """A worker whose chat was edited away learns it from every write that it tries."""
    state = await desk.start(await desk.running())
    await desk.edit(state.id, 1, "other words")
    before = await store.load(state.id)

    with pytest.raises(LeaseLost):
        await desk.answer(state)
    with pytest.raises(LeaseLost):
        await desk.begin(state, "c1")
    with pytest.raises(LeaseLost):
        await desk.finish_call(state, "c1")

    assert await store.load(state.id) == before
    assert await store.heartbeat(W1, [(state.id, state.epoch)], LEASE_SECONDS) == []


async def test_a_heartbeat_moves_the_lease_and_not_the_revision(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Beats are outside of the revision, so they never make a commit miss."""
    state = await desk.start(await desk.running())
    log = await desk.log(state.id)
    await stores.clock.advance(10)

    (beat,) = await store.heartbeat(W1, [(state.id, state.epoch)], LEASE_SECONDS)

    assert (beat.chat_id, beat.epoch) == (state.id, state.epoch)
    assert (beat.revision, beat.status) == (state.revision, Status.RUNNING)
    loaded = await store.load(state.id)
    assert loaded.revision == state.revision
    assert loaded.lease is not None
    assert loaded.lease.expires_at == stores.clock.now() + round(LEASE_SECONDS * MICROSECONDS)
    assert await desk.log(state.id) == log


async def test_a_commit_on_an_older_state_does_not_shorten_the_lease(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """The holder's state has the lease of before the beats; a step must not write it back."""
    state = await desk.start(await desk.running())
    await stores.clock.advance(20)
    await store.heartbeat(W1, [(state.id, state.epoch)], LEASE_SECONDS)
    expires_at = stores.clock.now() + round(LEASE_SECONDS * MICROSECONDS)

    await desk.answer(state)
    lease = (await store.load(state.id)).lease
    assert lease is not None
    assert lease.expires_at == expires_at

    await desk.interrupt(state.id)
    lease = (await store.load(state.id)).lease
    assert lease is not None
    assert lease.expires_at == expires_at


async def test_a_heartbeat_tells_of_an_interruption(store: Store, desk: Desk) -> None:
    """A lost hint is found at the next beat."""
    state = await desk.running()
    interrupted = await desk.interrupt(state.id)

    (beat,) = await store.heartbeat(W1, [(state.id, state.epoch)], LEASE_SECONDS)

    assert beat.status is Status.INTERRUPTING
    assert beat.revision == interrupted.state.revision


async def test_a_heartbeat_for_many_leaves_out_what_is_lost(store: Store, desk: Desk) -> None:
    """One beat for all chats of a worker; absent means lost."""
    for _ in range(3):
        await desk.create()
    states = [acquired.state for acquired in await desk.acquire(slots=3)]
    await desk.edit(states[1].id, 1, "other words")
    held = [(state.id, state.epoch) for state in states]

    beats = await store.heartbeat(W1, held, LEASE_SECONDS)

    assert {beat.chat_id for beat in beats} == {states[0].id, states[2].id}
    assert await store.heartbeat(W2, held, LEASE_SECONDS) == []


async def test_an_expired_lease_is_rescued(stores: Stores, store: Store, desk: Desk) -> None:
    """A chat whose worker went silent goes to another, and the silent one is fenced."""
    state = await desk.start(await desk.running())
    assert await store.rescue(W2, 10) == 0
    await stores.clock.advance(LEASE_SECONDS + 1)

    assert await store.rescue(W2, 10) == 1
    assert await store.rescue(W2, 10) == 0

    loaded = await store.load(state.id)
    assert (loaded.status, loaded.lease, loaded.rescues) == (Status.PENDING, None, 1)
    assert_gap_free(await desk.log(state.id), loaded)
    with pytest.raises(LeaseLost):
        await desk.answer(state)
    (again,) = await desk.acquire(W2)
    assert again.state.id == state.id


async def test_of_an_expired_lease_and_a_heartbeat_the_first_wins(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A late beat keeps a chat that nobody rescued yet; after a rescue it finds nothing."""
    state = await desk.running()
    await stores.clock.advance(LEASE_SECONDS + 1)
    held = [(state.id, state.epoch)]

    assert len(await store.heartbeat(W1, held, LEASE_SECONDS)) == 1
    assert await store.rescue(W2, 10) == 0

    await stores.clock.advance(LEASE_SECONDS + 1)
    assert await store.rescue(W2, 10) == 1
    assert await store.heartbeat(W1, held, LEASE_SECONDS) == []


async def test_heartbeats_and_rescues_at_once_agree_on_who_holds_a_chat(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Each expired chat is either kept by its beat or rescued, never both and never neither."""
    for _ in range(20):
        await desk.create()
    states = [acquired.state for acquired in await desk.acquire(slots=20)]
    await stores.clock.advance(LEASE_SECONDS + 1)
    beating = [store.heartbeat(W1, [(state.id, state.epoch)], LEASE_SECONDS) for state in states]

    beats, rescued = await asyncio.gather(
        asyncio.gather(*beating), asyncio.gather(*(store.rescue(W2, 3) for _ in range(7)))
    )

    kept = {beat.chat_id for some in beats for beat in some}
    assert len(kept) + sum(rescued) == 20
    for state in states:
        loaded = await store.load(state.id)
        assert (loaded.lease is not None) == (state.id in kept)


# --- the tool journal ----------------------------------------------------------------------


async def test_the_journal_is_part_of_the_loaded_state(store: Store, desk: Desk) -> None:
    """The next holder knows which calls began and which finished, in any order."""
    state = await desk.running()
    state = await desk.answered(state, calls=[desk.call(one) for one in ("a", "b", "c")])

    state = await desk.begin(state, "a", "b")
    await desk.finish_call(state, "b", "output \x00")

    loaded = await store.load(state.id)
    a, b, c = loaded.calls
    assert (a.started_at, a.outcome) == (desk.clock.now(), None)
    assert (b.started_at, b.outcome) == (desk.clock.now(), desk.result("b", "output \x00"))
    assert (c.started_at, c.outcome) == (None, None)
    assert loaded.revision == state.revision
    assert loaded.journal == state.journal + 1


async def test_the_first_outcome_of_a_call_stands(store: Store, desk: Desk) -> None:
    """An outcome that was recorded is never overwritten."""
    state = await desk.answered(await desk.running(), calls=[desk.call("a")])
    state = await desk.begin(state, "a")
    await desk.finish_call(state, "a", "first")

    await desk.finish_call(state, "a", "second")

    outcome = (await store.load(state.id)).calls[0].outcome
    assert outcome is not None
    assert outcome.output == "first"


async def test_a_transition_that_closes_calls_sees_an_outcome_recorded_meanwhile(
    store: Store, desk: Desk
) -> None:
    """The sender's state knows no outcome; the results that are committed have it."""
    state = await desk.running()
    state = await desk.answered(state, calls=[desk.call(one) for one in ("a", "b", "c")])
    state = await desk.begin(state, "a", "b")
    await desk.finish_call(state, "a", "recorded")

    await store.apply(state.id, _fail(state), known=state)

    results = await _results(desk, state.id)
    assert list(results) == ["a", "b", "c"]
    assert results["a"].output == "recorded"
    assert results["b"].error is ToolErrorKind.OUTCOME_UNKNOWN
    assert results["c"].error is ToolErrorKind.INTERRUPTED
    assert (await store.load(state.id)).calls == ()


async def test_outcomes_recorded_while_calls_are_closed_are_never_lost(
    store: Store, desk: Desk
) -> None:
    """Each outcome is acknowledged and committed, or refused; there is nothing in between."""
    kept = []
    for n in range(20):
        state = await desk.answered(await desk.running(), calls=[desk.call("a")])
        state = await desk.begin(state, "a")
        writes = [
            desk.finish_call(state, "a", "recorded"),
            store.apply(state.id, _fail(state), known=state),
        ]

        outcomes = await asyncio.gather(*writes[:: 1 if n % 2 else -1], return_exceptions=True)

        result = (await _results(desk, state.id))["a"]
        lost = [error for error in outcomes if isinstance(error, BaseException)]
        assert [type(error) for error in lost] in ([], [LeaseLost])
        assert (result.output == "recorded") == (not lost)
        kept.append(not lost)
    assert any(kept)


async def test_a_turn_that_ends_on_an_old_state_begins_what_was_queued_meanwhile(
    store: Store, desk: Desk
) -> None:
    """The holder does not know of the queue yet; the end of the turn does."""
    known = await desk.answered(await desk.running())
    await desk.send(known.id, "and then?")

    applied = await desk.finish(known)

    assert applied.state.status is Status.PENDING
    assert applied.state.queue == ()
    assert (await desk.texts(known.id))[-1] == "and then?"
    assert applied.state == await store.load(known.id)
    assert_gap_free(await desk.log(known.id), applied.state)


async def test_a_turn_that_ends_with_its_calls_open_gives_them_their_outcomes(
    store: Store, desk: Desk
) -> None:
    """The holder does not know what the journal knows; the results that are committed do."""
    state = await desk.answered(await desk.running(), calls=[desk.call("a")])
    state = await desk.begin(state, "a")
    await desk.finish_call(state, "a", "recorded")

    applied = await desk.finish(state)

    assert applied.state.status is Status.WAITING
    assert (await _results(desk, state.id))["a"].output == "recorded"
    assert applied.state == await store.load(state.id)


async def test_results_that_are_committed_leave_the_journal(store: Store, desk: Desk) -> None:
    """A closed call has its result in the history and no row in the journal."""
    state = await desk.answered(await desk.running(), calls=[desk.call("a"), desk.call("b")])
    state = await desk.begin(state, "a", "b")
    await desk.finish_call(state, "a")
    await desk.finish_call(state, "b")

    applied = await desk.results(state, desk.result("a"), desk.result("b"))

    assert applied.state.calls == ()
    assert set(await _results(desk, state.id)) == {"a", "b"}
    assert (await store.load(state.id)).calls == ()


async def test_results_handed_in_by_parts_are_kept(store: Store, desk: Desk) -> None:
    """A client may answer call by call; the last one commits all, in call order."""
    state = await desk.asking("a", "b")

    await desk.submit(state.id, "b", allow_partial=True)
    loaded = await store.load(state.id)
    assert loaded.status is Status.REQUIRES_ACTION
    assert [call.outcome is not None for call in loaded.calls] == [False, True]

    done = await desk.submit(state.id, "a", allow_partial=True)
    assert done.state.status is Status.PENDING
    assert list(await _results(desk, state.id)) == ["a", "b"]
    assert await store.load(state.id) == done.state


# --- time ----------------------------------------------------------------------------------


async def test_actions_past_their_deadline_are_answered(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """The deadline is in the database; the first server that looks closes the action."""
    state = await desk.asking("a")
    assert state.action is not None
    assert await store.next_due() == state.action.deadline
    assert await store.expire_actions(W2, 10) == 0
    await stores.clock.advance((state.action.deadline - stores.clock.now()) / MICROSECONDS)

    assert await store.expire_actions(W2, 10) == 1
    assert await store.expire_actions(W2, 10) == 0

    loaded = await store.load(state.id)
    assert loaded.status is Status.PENDING
    assert (await _results(desk, state.id))["a"].executor is Executor.CLIENT
    assert await store.next_due() is None
    with pytest.raises(NotWaitingForAction):
        await desk.submit(state.id, "a")


async def test_of_a_late_submit_and_the_expiry_the_first_wins(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """The order of the database decides: a submit before the expiry counts, also when late."""
    state = await desk.asking("a")
    await stores.clock.advance(10_000)

    await desk.submit(state.id, "a")

    assert await store.expire_actions(W2, 10) == 0
    assert (await _results(desk, state.id))["a"].error is None


async def test_a_retry_that_is_not_due_is_not_taken(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A chat given back between two attempts rests until the next one is due."""
    state = await desk.start(await desk.running())
    assert state.turn is not None
    assert state.turn.attempt is not None
    retry = ScheduleRetry(
        command_id="retry",
        worker_id=W1,
        epoch=state.epoch,
        attempt_id=state.turn.attempt.id,
        delay_seconds=30.0,
        error=ChatError(ErrorKind.OVERLOADED, "busy", retryable=True),
    )
    state = (await store.apply(state.id, retry, known=state)).state
    release = Release(command_id="release", worker_id=W1, epoch=state.epoch)
    await store.apply(state.id, release, known=state)

    assert await desk.acquire() == []
    assert await store.next_due() == stores.clock.now() + 30 * MICROSECONDS
    await stores.clock.advance(30)
    assert len(await desk.acquire()) == 1
