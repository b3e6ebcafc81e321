"""Results of client tools that come by parts: kept one by one, committed with the last."""

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import (
    CALLS_PER_ANSWER_MAX,
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    TOOL_BATCH_BYTES_MAX,
    TOOL_RESULT_BYTES_MAX,
)
from tests.kit.server import Served, refusal_of, said, serving

TIMEOUT_SECONDS = 300.0


async def asking(served: Served, calls: int, *names: str) -> tool_pb2.PendingAction:
    """Return what a chat waits for whose model has asked for `calls` calls of its tools in turn."""
    tools = names or ("look",)
    lines = [f'!call {it} {{"n": {n}}}' for n, it in zip(range(calls), itertools.cycle(tools))]
    request = pb.CreateChatRequest(
        tools=[tool_pb2.ToolDefinition(name=it) for it in tools], message=said("\n".join(lines))
    )
    created = await served.call("CreateChat", request)
    await served.settled(created.chat.chat_id)
    action = await pending(served, created.chat.chat_id)
    assert action is not None
    return action


async def pending(served: Served, chat_id: str) -> tool_pb2.PendingAction | None:
    """Return what a chat still waits for."""
    request = pb.ListPendingActionsRequest(chat_id=chat_id)
    listed = await served.call("ListPendingActions", request)
    return listed.actions[0] if listed.actions else None


def ids(action: tool_pb2.PendingAction | None) -> list[str]:
    """Return the ids of an action's calls."""
    return [] if action is None else [it.tool_call_id for it in action.tool_calls]


def part_of(
    action: tool_pb2.PendingAction, *call_ids: str, output: str = "seen", partial: bool = True
) -> pb.SubmitToolResultsRequest:
    """Return the results of some calls."""
    request = pb.SubmitToolResultsRequest(
        chat_id=action.chat_id, request_id=str(uuid.uuid4()), allow_partial=partial
    )
    for call_id in call_ids:
        request.results.add(tool_call_id=call_id, output_text=output)
    return request


async def results(served: Served, chat_id: str) -> list[Any]:
    """Return the results of the history, in order."""
    request = pb.ListMessagesRequest(chat_id=chat_id)
    found: list[Any] = []
    while True:
        page = await served.call("ListMessages", request)
        found += [
            part.tool_result
            for it in page.messages
            for part in it.parts
            if part.WhichOneof("kind") == "tool_result"
        ]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def chat_of(served: Served, action: tool_pb2.PendingAction) -> chat_pb2.Chat:
    """Return the chat that asks."""
    got = await served.call("GetChat", pb.GetChatRequest(chat_id=action.chat_id))
    chat: chat_pb2.Chat = got.chat
    return chat


async def test_a_part_of_the_results_is_kept_and_nothing_is_told(served: Served) -> None:
    """Status and events stay; only what is missing is still wanted, and said to be missing."""
    action = await asking(served, 3)
    before = await chat_of(served, action)
    first, second, third = ids(action)

    answer = await served.call("SubmitToolResults", part_of(action, third, first))

    assert answer.missing_tool_call_ids == [second]
    assert answer.sequence == before.head_sequence
    after = await chat_of(served, action)
    assert after.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    assert after.head_sequence == before.head_sequence
    assert ids(await pending(served, action.chat_id)) == [second]
    assert not await results(served, action.chat_id)


async def test_the_last_part_commits_all_in_call_order(served: Served) -> None:
    """One message with every result, and the turn goes on; the last part needs no flag."""
    action = await asking(served, 3)
    first, second, third = ids(action)
    await served.call("SubmitToolResults", part_of(action, third, output="3"))
    await served.call("SubmitToolResults", part_of(action, first, output="1"))
    last = part_of(action, second, output="2", partial=False)
    assert not (await served.call("SubmitToolResults", last)).missing_tool_call_ids
    await served.settled(action.chat_id)
    found = await results(served, action.chat_id)
    assert [it.output_text for it in found] == ["1", "2", "3"]
    assert [it.tool_call_id for it in found] == [first, second, third]
    assert (await chat_of(served, action)).stop_reason == chat_pb2.STOP_REASON_END_TURN


async def test_without_the_flag_every_wanted_result_must_come(served: Served) -> None:
    """Exactly what is still wanted: kept results are neither missing nor accepted again."""
    action = await asking(served, 3)
    first, second, third = ids(action)
    await served.call("SubmitToolResults", part_of(action, first))
    refusal = await served.refused(
        "SubmitToolResults", part_of(action, first, second, partial=False)
    )
    assert refusal.reason == "TOOL_RESULTS_MISMATCH"
    assert refusal.violations == [
        ("results[0].tool_call_id", f"{first!r} has its result already"),
        ("results", f"the result of {third!r} is missing"),
    ]


async def test_a_result_that_was_kept_is_refused_the_second_time(served: Served) -> None:
    """The first writer wins, call by call; the refusal names the call and writes nothing."""
    action = await asking(served, 2)
    first, second = ids(action)
    await served.call("SubmitToolResults", part_of(action, first, output="won"))
    before = await chat_of(served, action)
    refusal = await served.refused("SubmitToolResults", part_of(action, second, first))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "TOOL_RESULTS_MISMATCH"
    assert refusal.violations == [
        ("results[1].tool_call_id", f"{first!r} has its result already"),
    ]
    assert await chat_of(served, action) == before
    await served.call("SubmitToolResults", part_of(action, second))
    await served.settled(action.chat_id)
    assert (await results(served, action.chat_id))[0].output_text == "won"


async def test_a_part_with_the_same_request_id_is_kept_once(served: Served) -> None:
    """Also when the rest arrived meanwhile: the answer is the stored one."""
    action = await asking(served, 2)
    first, second = ids(action)
    request = part_of(action, first)
    answer = await served.call("SubmitToolResults", request)
    assert await served.call("SubmitToolResults", request) == answer
    await served.call("SubmitToolResults", part_of(action, second))
    await served.settled(action.chat_id)
    assert await served.call("SubmitToolResults", request) == answer
    assert answer.missing_tool_call_ids == [second]
    assert len(await results(served, action.chat_id)) == 2


async def test_ten_submitters_of_a_call_each_complete_the_action_once(served: Served) -> None:
    """All are taken, whatever the order; exactly one of them was the last."""
    action = await asking(served, 10)
    answers = await asyncio.gather(
        *(served.call("SubmitToolResults", part_of(action, it)) for it in ids(action))
    )
    missing = sorted(len(it.missing_tool_call_ids) for it in answers)
    assert missing == list(range(10))
    await served.settled(action.chat_id)
    assert [it.tool_call_id for it in await results(served, action.chat_id)] == ids(action)


async def test_of_ten_submitters_of_the_same_call_one_is_taken(served: Served) -> None:
    """Others see that it has its result."""
    action = await asking(served, 2)
    first, _ = ids(action)

    requests = [part_of(action, first, output=str(number)) for number in range(10)]
    answers = await asyncio.gather(
        *(served.call("SubmitToolResults", it) for it in requests), return_exceptions=True
    )
    refused = [it for it in answers if isinstance(it, grpc.aio.AioRpcError)]
    assert {refusal_of(it).reason for it in refused} == {"TOOL_RESULTS_MISMATCH"}
    (winner,) = (
        it.results[0].output_text
        for it, answer in zip(requests, answers, strict=True)
        if answer not in refused
    )
    await served.call("InterruptChat", pb.InterruptChatRequest(chat_id=action.chat_id))
    assert (await results(served, action.chat_id))[0].output_text == winner


async def test_an_interrupt_and_the_deadline_use_what_was_kept(served: Served) -> None:
    """The kept result is the outcome of its call; the others are answered by the service."""
    for leave in ("interrupt", "deadline"):
        action = await asking(served, 2)
        _, second = ids(action)
        await served.call("SubmitToolResults", part_of(action, second, output="kept"))
        if leave == "interrupt":
            await served.call("InterruptChat", pb.InterruptChatRequest(chat_id=action.chat_id))
        else:
            await served.clock.advance(TIMEOUT_SECONDS + 1)
        until = pb.SUBSCRIBE_UNTIL_SETTLED  # not at an action that is about to expire
        await served.subscribe(pb.SubscribeRequest(chat_id=action.chat_id, until=until))
        found = await results(served, action.chat_id)
        assert [it.is_error for it in found] == [True, False], leave
        assert found[1].output_text == "kept"


async def test_a_tool_whose_calls_have_their_results_is_not_asked_for(served: Served) -> None:
    """A runner of one tool sees only actions in which it has something left to do."""
    action = await asking(served, 2, "look", "listen")
    first, _ = ids(action)
    await served.call("SubmitToolResults", part_of(action, first))

    async def listed(name: str) -> Sequence[tool_pb2.PendingAction]:
        request = pb.ListPendingActionsRequest(tool_names=[name])
        found: Sequence[tool_pb2.PendingAction] = (
            await served.call("ListPendingActions", request)
        ).actions
        return found

    assert not await listed("look")
    (wanted,) = await listed("listen")
    assert [it.tool_name for it in wanted.tool_calls] == ["listen"]


async def test_a_snapshot_shows_which_calls_are_answered(served: Served) -> None:
    """A person sees all calls of the step; a runner reads what is wanted from the list."""
    action = await asking(served, 2)
    first, second = ids(action)
    await served.call("SubmitToolResults", part_of(action, second))
    events = await served.settled(action.chat_id)
    shown = events[0].event.snapshot.pending_action
    assert [(it.tool_call_id, it.answered) for it in shown.tool_calls] == [
        (first, False),
        (second, True),
    ]


async def test_what_was_kept_survives_a_restart(tmp_path: Path) -> None:
    """Kept means in the database: the next process takes the rest and commits all."""
    async with serving(tmp_path) as served:
        action = await asking(served, 2)
        first, second = ids(action)
        await served.call("SubmitToolResults", part_of(action, second, output="kept"))
    async with serving(tmp_path) as served:
        assert ids(await pending(served, action.chat_id)) == [first]
        await served.call("SubmitToolResults", part_of(action, first, output="new"))
        await served.settled(action.chat_id)
        found = await results(served, action.chat_id)
        assert [it.output_text for it in found] == ["new", "kept"]


@pytest.mark.parametrize("size", [TOOL_RESULT_BYTES_MAX, TOOL_RESULT_BYTES_MAX // 8])
async def test_300_calls_with_large_results_are_answered(served: Served, size: int) -> None:
    """More calls than one answer may have, results that no single request holds: all of it goes
    through, and nothing that anybody is sent is above its limit.
    """
    action = await asking(served, 300)
    assert len(action.tool_calls) == CALLS_PER_ANSWER_MAX
    output = "x" * size
    at_once = (REQUEST_BYTES_MAX - 64 * 1024) // size
    wanted = ids(action)
    for begin in range(0, len(wanted), at_once):
        some = wanted[begin : begin + at_once]
        await served.call("SubmitToolResults", part_of(action, *some, output=output))
    events = await served.settled(action.chat_id)

    found = await results(served, action.chat_id)
    assert {it.tool_call_id for it in found} > set(wanted)
    assert len(found) == 300
    given = [it for it in found if not it.is_error]
    assert sum(len(it.output_text) for it in given) <= TOOL_BATCH_BYTES_MAX
    assert all(it.truncated == (size * len(wanted) > TOOL_BATCH_BYTES_MAX) for it in given)
    assert (await chat_of(served, action)).status == chat_pb2.CHAT_STATUS_WAITING
    replayed = await served.subscribe(
        pb.SubscribeRequest(
            chat_id=action.chat_id,
            resume_from=chat_pb2.Cursor(),
            until=pb.SUBSCRIBE_UNTIL_SETTLED,
        )
    )
    for response in [*events, *replayed]:
        assert response.ByteSize() <= RESPONSE_BYTES_MAX
