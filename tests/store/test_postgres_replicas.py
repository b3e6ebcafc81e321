"""Several replicas on one database, whose clock is the only one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest

from chatd_server.clock import RealClock
from chatd_server.domain.chat import Status
from chatd_server.domain.command import Fail, SetTitle
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import MICROSECONDS, ChatId, Instant, WorkerId
from chatd_server.domain.refusal import LeaseLost, RequestIdReused
from chatd_server.observe import NullObserver
from chatd_server.ports.store import RequestKey
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.wake import LocalWake
from tests.kit.clock import ManualClock
from tests.store.conftest import WRITERS, HeardCommits, PostgresStores
from tests.store.desk import ANN, W1, W2, Desk, assert_gap_free
from tests.store.outages import (
    AnswersLate,
    Interrupted,
    locked,
)


@pytest.fixture
def stores(replicas: PostgresStores) -> PostgresStores:
    """Take the shared store alone."""
    return replicas


# --- several replicas ---------------------------------------------------------------------


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
            acquired = (await store.acquire(worker, 64, 30.0)).chats
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
    (acquired,) = (await there.acquire(W2, 1, 30.0)).chats

    assert acquired.state.epoch == state.epoch + 1
    assert await here.heartbeat(W1, [(state.id, state.epoch)], 30.0) == []
    before = await there.load(state.id)
    with pytest.raises(LeaseLost):
        await desk.answer(state)
    with pytest.raises(LeaseLost):
        await desk.begin(state, "a")
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


async def test_commits_of_a_chat_are_told_in_order_when_answers_are_not(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """A later commit of the same process waits until an earlier one was told."""
    chat_id, *_ = await asyncio.gather(*(desk.create("") for _ in range(WRITERS)))
    slow = store.writers._free[-1] = AnswersLate(store.writers._free[-1])

    first = asyncio.create_task(store.apply(chat_id, title(1), owner_id=ANN))
    await slow.written.wait()
    second = asyncio.create_task(store.apply(chat_id, title(2), owner_id=ANN))
    for _ in range(10):
        await desk.create("")  # whatever need not wait is long done
    slow.answer.set()
    await asyncio.gather(first, second)

    told = [heard.state for heard in replicas.heard.commits if heard.state.id == chat_id]
    assert [state.revision for state in told] == [1, 2, 3]
    assert [state.config.title for state in told] == ["", "title 1", "title 2"]


async def test_an_outcome_recorded_after_the_look_is_not_overwritten(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """A transition that closes calls compares the journal, and looks again."""
    there = await replicas.open()
    state = await desk.answered(await desk.running(), calls=[desk.call("a")])
    state = await desk.begin(state, "a")
    store.writers._free[-1] = Interrupted(
        store.writers._free[-1],
        lambda: there.finish_call(state.id, state.epoch, desk.result("a", "seen")),
    )
    command = Fail(
        command_id="fail",
        worker_id=W1,
        epoch=state.epoch,
        error=ChatError(ErrorKind.GENERIC, "failed"),
    )

    applied = await store.apply(state.id, command)

    (result,) = applied.messages[0].results
    assert result.output == "seen"
    assert applied.state == await store.load(state.id)


async def test_a_heartbeat_after_the_look_is_not_undone(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """A command that leaves the lease as it is does not write it."""
    there = await replicas.open()
    state = await desk.running()
    store.writers._free[-1] = Interrupted(
        store.writers._free[-1],
        lambda: there.heartbeat(W1, [(state.id, state.epoch)], 90.0),
    )

    await desk.interrupt(state.id)

    found = await store.load(state.id)
    assert found.status is Status.INTERRUPTING
    assert found.lease is not None
    assert found.lease.expires_at == replicas.clock.now() + 90 * MICROSECONDS


async def test_an_acquisition_leaves_out_what_is_being_written(
    replicas: PostgresStores, desk: Desk
) -> None:
    """A row that is locked is passed over, not waited for, and the worker is told."""
    busy = await desk.create("busy")
    await replicas.clock.advance(2)
    free = await desk.create("free")
    await replicas.clock.advance(3)

    async with locked(replicas.url, busy):
        taken = await desk.store.acquire(W1, 2, 30.0)

    assert [chat.state.id for chat in taken.chats] == [free]
    assert taken.passed_over_seconds == 5.0
    taken = await desk.store.acquire(W1, 2, 30.0)
    assert [chat.state.id for chat in taken.chats] == [busy]
    assert taken.passed_over_seconds is None


async def test_an_acquisition_leaves_out_what_its_own_process_writes(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """Commits of one chat are told in order, so it is passed over too, and the worker is told."""
    await asyncio.gather(*(desk.create("") for _ in range(WRITERS)))
    chat_id = await desk.create("hello")
    slow = store.writers._free[-1] = AnswersLate(store.writers._free[-1])
    writing = asyncio.create_task(store.apply(chat_id, title(1), owner_id=ANN))
    await slow.written.wait()

    await replicas.clock.advance(1)

    taken = await store.acquire(W1, 1, 30.0)
    slow.answer.set()
    await writing

    assert (taken.chats, taken.passed_over_seconds) == ((), 1.0)
    assert len((await store.acquire(W1, 1, 30.0)).chats) == 1


# --- time ---------------------------------------------------------------------------------


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
