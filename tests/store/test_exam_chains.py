"""The exam of every store: a chain is one commit, or nothing."""

import asyncio
from collections.abc import Sequence

import pytest

from chatd_server.domain.chat import AttemptKind, ChatState, Status
from chatd_server.domain.command import (
    CommitAnswer,
    Fail,
    StartAttempt,
)
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.message import Executor, ToolErrorKind
from chatd_server.domain.refusal import LeaseLost, WrongStatus
from chatd_server.ports.store import Store
from tests.store.conftest import Stores
from tests.store.desk import LEASE_SECONDS, W1, W2, Desk, assert_gap_free


def step(
    desk: Desk, state: ChatState, *call_ids: str, clients: Sequence[str] = ()
) -> tuple[CommitAnswer, StartAttempt]:
    """Return what a worker writes between an answer and its tools."""
    calls = [desk.call(one) for one in call_ids]
    calls += [desk.call(one, Executor.CLIENT) for one in clients]
    return desk.answer_command(state, calls=calls), desk.start_command(state, AttemptKind.TOOLS)


async def batch(desk: Desk, *call_ids: str, clients: Sequence[str] = ()) -> ChatState:
    """Bring a chat to where its tools run."""
    state = await desk.start(await desk.running())
    answer, start = step(desk, state, *call_ids, clients=clients)
    return (await desk.chain(state, answer, start, started=call_ids)).state


async def test_a_chain_is_one_commit(stores: Stores, store: Store, desk: Desk) -> None:
    """Each command is a revision, all of them are told of at once, and the journal has started
    what begins with it.
    """
    state = await desk.start(await desk.running())
    told = len(stores.heard.commits)

    applied = await desk.chain(state, *step(desk, state, "a", "b"), started=["a"])

    assert stores.heard.commits[told:] == [applied]
    assert applied.state == await store.load(state.id)
    assert applied.state.revision == state.revision + 2
    assert applied.state.turn is not None
    assert applied.state.turn.attempt is not None
    assert applied.state.turn.attempt.base_sequence == applied.state.head_sequence
    now = stores.clock.now()
    assert [(call.id, call.started_at) for call in applied.state.calls] == [("a", now), ("b", None)]
    assert list(applied.events) == list(await desk.log(state.id))[-len(applied.events) :]
    assert_gap_free(await desk.log(state.id), applied.state)


async def test_an_answer_and_the_end_of_its_turn_are_one_commit(store: Store, desk: Desk) -> None:
    """Also when a queued message begins the next turn that the holder knows nothing of."""
    for queued in (False, True):
        state = await desk.start(await desk.running())
        if queued:
            await desk.send(state.id, "next")

        applied = await desk.chain(state, desk.answer_command(state), desk.finish_command(state))

        assert applied.state == await store.load(state.id)
        assert applied.state.status is (Status.PENDING if queued else Status.WAITING)
        assert applied.state.lease is None
        assert await desk.texts(state.id) == ["hello", "answer", *(["next"] if queued else [])]
        assert_gap_free(await desk.log(state.id), applied.state)


async def test_results_and_the_next_attempt_are_one_commit(store: Store, desk: Desk) -> None:
    """What the journal had of them goes; outcomes that the holder brings count."""
    state = await batch(desk, "a", "b")
    await desk.finish_call(state, "a")

    applied = await desk.chain(
        state,
        desk.results_command(state, desk.result("a"), desk.result("b")),
        desk.start_command(state, AttemptKind.MODEL),
    )

    loaded = await store.load(state.id)
    assert (loaded.calls, loaded.turn) == ((), applied.state.turn)
    assert (await desk.log(state.id))[-1] == applied.events[-1]


async def test_results_and_the_clients_action_are_one_commit(store: Store, desk: Desk) -> None:
    """The client's calls stay open, with a deadline; a worker does not hold them."""
    state = await batch(desk, "a", clients=["c"])

    applied = await desk.chain(
        state,
        desk.results_command(state, desk.result("a")),
        desk.action_command(state),
    )

    assert applied.state == await store.load(state.id)
    assert applied.state.status is Status.REQUIRES_ACTION
    assert [call.id for call in applied.state.calls] == ["c"]
    assert applied.state.action is not None


async def test_a_refusal_in_the_middle_refuses_all_and_says_which(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """Nothing of it is written: no message, no event, no row of the journal, no record."""
    state = await desk.start(await desk.running())
    log, told = await desk.log(state.id), len(stores.heard.commits)
    answer, _ = step(desk, state, "a")
    wrong = desk.start_command(state, AttemptKind.MODEL)

    for known in (True, False):
        with pytest.raises(WrongStatus, match="tool calls are open") as refused:
            await desk.chain(state, answer, wrong, started=["a"], known=known)
        assert refused.value.command == wrong

    assert await store.load(state.id) == state
    assert await desk.log(state.id) == log
    assert len(stores.heard.commits) == told
    applied = await desk.chain(state, *step(desk, state, "a"))
    assert not applied.replayed
    assert [call.started_at for call in (await store.load(state.id)).calls] == [None]


async def test_an_interrupt_before_a_chain_refuses_all_of_it(store: Store, desk: Desk) -> None:
    """The first command says so: the holder saves the step in another way."""
    state = await desk.start(await desk.running())
    interrupted = (await desk.interrupt(state.id)).state
    answer, start = step(desk, state, "a")

    with pytest.raises(WrongStatus) as refused:
        await desk.chain(state, answer, start, started=["a"])

    assert refused.value.status is Status.INTERRUPTING
    assert refused.value.command == answer
    assert await store.load(state.id) == interrupted


async def test_an_interrupt_that_meets_a_chain_comes_before_or_after_all_of_it(
    store: Store, desk: Desk
) -> None:
    """Either the answer with the start of its tools is there, or neither of them."""
    for n in range(20):
        state = await desk.start(await desk.running())
        writes = [
            desk.chain(state, *step(desk, state, "a"), started=["a"]),
            desk.interrupt(state.id),
        ]

        outcomes = await asyncio.gather(*writes[:: 1 if n % 2 else -1], return_exceptions=True)

        refused = [error for error in outcomes if isinstance(error, BaseException)]
        assert [type(error) for error in refused] in ([], [WrongStatus])
        loaded = await store.load(state.id)
        assert loaded.status is Status.INTERRUPTING
        assert [call.started_at is not None for call in loaded.calls] == ([] if refused else [True])
        assert len(await desk.texts(state.id)) == (1 if refused else 2)
        assert_gap_free(await desk.log(state.id), loaded)


async def test_a_chain_of_a_stale_epoch_writes_nothing(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """An edit or a rescue takes the chat away: journal rows of started calls are fenced too."""
    state = await desk.start(await desk.running())
    await desk.edit(state.id, 1, "other words")
    edited = await store.load(state.id)
    with pytest.raises(LeaseLost) as refused:
        await desk.chain(state, *step(desk, state, "a"), started=["a"])
    assert isinstance(refused.value.command, CommitAnswer)
    assert await store.load(state.id) == edited

    (again,) = await desk.acquire()
    state = await desk.start(again.state)
    await stores.clock.advance(LEASE_SECONDS + 1)
    assert await store.rescue(W2, 1) == 1
    rescued = await store.load(state.id)
    with pytest.raises(LeaseLost):
        await desk.chain(state, *step(desk, state, "a"), started=["a"])
    assert await store.load(state.id) == rescued


async def test_a_command_after_the_end_of_the_lease_is_refused(store: Store, desk: Desk) -> None:
    """A chain ends with its lease."""
    state = await desk.start(await desk.running())
    finish, late = desk.finish_command(state), desk.start_command(state, AttemptKind.MODEL)

    with pytest.raises(LeaseLost) as refused:
        await desk.chain(state, desk.answer_command(state), finish, late)

    assert refused.value.command == late
    assert await store.load(state.id) == state


async def test_a_call_that_is_not_open_cannot_start(store: Store, desk: Desk) -> None:
    """The journal has no row of a call that nobody asked for."""
    state = await desk.start(await desk.running())

    with pytest.raises(WrongStatus, match="'z'"):
        await desk.chain(state, *step(desk, state, "a"), started=["a", "z"])

    assert await store.load(state.id) == state


async def test_a_chain_on_an_older_state_is_decided_on_the_rows(store: Store, desk: Desk) -> None:
    """A client wrote in between: nothing of that is lost, and nothing of the chain."""
    state = await desk.start(await desk.running())
    await desk.send(state.id, "queued")

    applied = await desk.chain(state, *step(desk, state, "a"), started=["a"])

    assert applied.state == await store.load(state.id)
    assert len(applied.state.queue) == 1
    assert applied.state.revision == state.revision + 3
    assert applied.state.calls[0].started_at is not None
    assert_gap_free(await desk.log(state.id), applied.state)


async def test_a_repeated_chain_is_success_and_written_once(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """It is looked up by its first command, with the state of before and without one."""
    state = await desk.start(await desk.running())
    commands = step(desk, state, "a")
    first = await desk.chain(state, *commands, started=["a"])
    await stores.clock.advance(1)

    for known in (True, False):
        again = await desk.chain(state, *commands, started=["a"], known=known)
        assert again.replayed
        assert again.sequence == first.sequence
        assert again.state == first.state

    assert await store.load(state.id) == first.state


async def test_a_started_call_without_an_outcome_is_unknown(store: Store, desk: Desk) -> None:
    """Whoever closes it finds the row that the chain wrote."""
    state = await batch(desk, "a", "b")
    await desk.finish_call(state, "b", "seen")
    error = ChatError(ErrorKind.AUTH, "no key")
    fail = Fail(command_id=desk.id(), worker_id=W1, epoch=state.epoch, error=error)

    applied = await store.apply(state.id, fail)

    (message,) = applied.messages
    unknown, seen = message.results
    assert unknown.error is ToolErrorKind.OUTCOME_UNKNOWN
    assert (seen.output, seen.error) == ("seen", None)


async def test_a_chain_does_not_shorten_the_lease(stores: Stores, store: Store, desk: Desk) -> None:
    """Beats come between two chains, and the holder's state is of before."""
    state = await desk.start(await desk.running())
    await stores.clock.advance(20)
    await store.heartbeat(W1, [(state.id, state.epoch)], LEASE_SECONDS)
    lease = (await store.load(state.id)).lease

    await desk.chain(state, *step(desk, state, "a"), started=["a"])

    assert (await store.load(state.id)).lease == lease


async def test_an_end_that_closes_a_call_takes_its_outcome_from_the_journal(
    store: Store, desk: Desk
) -> None:
    """The holder's copy of the journal is old, and no command of the chain brings the outcome."""
    state = await batch(desk, "a")
    await desk.finish_call(state, "a", "seen")

    applied = await desk.chain(
        state, desk.start_command(state, AttemptKind.TOOLS), desk.finish_command(state)
    )

    (message,) = applied.messages
    assert [result.output for result in message.results] == ["seen"]
    assert applied.state == await store.load(state.id)
