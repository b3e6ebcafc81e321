"""Results of client tools that come by parts: what every store must promise of kept ones."""

import asyncio

import pytest

from chatd_server.domain.chat import Status
from chatd_server.domain.command import SubmittedResult, SubmitToolResults
from chatd_server.domain.ids import MICROSECONDS, ChatId, ToolCallId
from chatd_server.domain.limits import TOOL_BATCH_BYTES_MAX, TOOL_RESULT_BYTES_MAX
from chatd_server.domain.machine.calls import waiting_calls
from chatd_server.domain.message import ToolErrorKind, ToolResult
from chatd_server.domain.refusal import ToolResultsMismatch
from chatd_server.ports.store import Store
from tests.store.conftest import Stores
from tests.store.desk import ANN, W2, Desk

CALLS = tuple(f"call-{n}" for n in range(10))


async def results(desk: Desk, chat_id: ChatId) -> list[ToolResult]:
    """Return the results of the history, in order."""
    return [
        it for logged in await desk.log(chat_id) if logged.message for it in logged.message.results
    ]


async def test_ten_at_once_hand_in_a_call_each(store: Store, desk: Desk) -> None:
    """None is lost to another one's commit, and one of them completes the action."""
    state = await desk.asking(*CALLS)
    done = await asyncio.gather(
        *(desk.submit(state.id, it, allow_partial=True) for it in reversed(CALLS))
    )
    assert sorted(len(it.reply.missing) for it in done) == list(range(10))
    assert [it.call_id for it in await results(desk, state.id)] == list(CALLS)
    loaded = await store.load(state.id)
    assert (loaded.status, loaded.calls) == (Status.PENDING, ())
    assert loaded.revision == state.revision + 10


async def test_of_ten_at_once_with_the_same_call_one_is_taken(desk: Desk) -> None:
    """The first writer wins, call by call."""
    state = await desk.asking("a", "b")
    done = await asyncio.gather(
        *(desk.submit(state.id, "a", allow_partial=True) for _ in CALLS), return_exceptions=True
    )
    refused = [it for it in done if isinstance(it, ToolResultsMismatch)]
    assert len(refused) == 9
    loaded = await desk.store.load(state.id)
    assert waiting_calls(loaded.calls) == ("b",)


async def test_what_was_kept_is_there_after_a_restart(
    stores: Stores, store: Store, desk: Desk
) -> None:
    """A crash between two parts costs neither of them."""
    state = await desk.asking("a", "b")
    await desk.submit(state.id, "b", allow_partial=True)
    again = Desk(await stores.reopen(store), stores.clock)
    await again.submit(state.id, "a")
    assert [it.output for it in await results(again, state.id)] == ["result of a", "result of b"]


async def test_a_part_whose_answer_was_lost_is_not_refused(store: Store, desk: Desk) -> None:
    """The same command again is the same success: it is found by its id."""
    state = await desk.asking("a", "b")
    command = SubmitToolResults(
        command_id=desk.id(),
        results=(SubmittedResult(ToolCallId("a"), "once", is_json=False),),
        allow_partial=True,
    )
    first = await store.apply(state.id, command, owner_id=ANN)
    second = await store.apply(state.id, command, owner_id=ANN)
    assert not first.replayed
    assert second.replayed
    assert second.sequence == first.sequence == state.head_sequence


@pytest.mark.parametrize("leave", ["interrupt", "deadline", "edit"])
async def test_what_was_kept_is_used_when_the_rest_never_comes(
    stores: Stores, store: Store, desk: Desk, leave: str
) -> None:
    """The recorded outcome stays, unless an edit removes the calls themselves."""
    state = await desk.asking("a", "b")
    await desk.submit(state.id, "b", allow_partial=True)
    if leave == "interrupt":
        await desk.interrupt(state.id)
    elif leave == "edit":
        await desk.edit(state.id, 1, "rather")
    else:
        assert state.action is not None
        await stores.clock.advance((state.action.deadline - stores.clock.now()) / MICROSECONDS)
        assert await store.expire_actions(W2, 10) == 1
    errors = {it.call_id: it.error for it in await results(desk, state.id)}
    why = {"interrupt": ToolErrorKind.INTERRUPTED, "deadline": ToolErrorKind.EXPIRED}
    assert errors == ({"a": why[leave], "b": None} if leave in why else {})
    assert (await store.load(state.id)).calls == ()


async def test_a_list_of_actions_knows_which_calls_have_their_result(
    store: Store, desk: Desk
) -> None:
    """The next runner takes the rest, and nothing twice."""
    state = await desk.asking("a", "b")
    await desk.submit(state.id, "a", allow_partial=True)
    (listed,) = (await store.list_actions(ANN, limit=10)).chats
    assert waiting_calls(listed.calls) == ("b",)


async def test_the_largest_results_of_a_step_are_kept_and_committed(
    store: Store, desk: Desk
) -> None:
    """16 MiB in one transaction, in messages of which each fits one event."""
    count = TOOL_BATCH_BYTES_MAX // TOOL_RESULT_BYTES_MAX
    wanted = [ToolCallId(f"call-{n}") for n in range(count)]
    state = await desk.asking(*wanted)
    for begin in range(0, count, 5):
        part = tuple(
            SubmittedResult(it, "x" * TOOL_RESULT_BYTES_MAX, is_json=False)
            for it in wanted[begin : begin + 5]
        )
        command = SubmitToolResults(command_id=desk.id(), results=part, allow_partial=True)
        await store.apply(state.id, command, owner_id=ANN)
    found = await results(desk, state.id)
    assert [it.call_id for it in found] == wanted
    assert {len(it.output) for it in found} == {TOOL_RESULT_BYTES_MAX}
    messages = [it.message for it in await desk.log(state.id) if it.message is not None]
    assert [len(it.results) for it in messages if it.results] == [1] * count
