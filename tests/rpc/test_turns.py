"""What a client does to a turn: queue, reject, interrupt, and hand in results of its tools."""

import uuid
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, event_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, said

UNKNOWN = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def busy(served: Served) -> chat_pb2.Chat:
    """A chat in the middle of an answer that does not end by itself."""
    message = said("!say before\n!stall 5\n!say after")
    created = await served.call("CreateChat", pb.CreateChatRequest(message=message))
    await served.clock.sleeping("sandbox.stall")
    got = await served.call("GetChat", pb.GetChatRequest(chat_id=created.chat.chat_id))
    chat: chat_pb2.Chat = got.chat
    assert chat.status == chat_pb2.CHAT_STATUS_RUNNING
    return chat


async def words(served: Served, chat_id: str) -> list[str]:
    """Return the text of each message."""
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    return ["".join(part.text.text for part in it.parts) for it in listed.messages]


def sending(chat: chat_pb2.Chat, text: str, behavior: str, **more: Any) -> pb.SendMessageRequest:
    """Return a message for a busy chat."""
    return pb.SendMessageRequest(
        chat_id=chat.chat_id,
        message=said(text),
        busy_behavior=chat_pb2.BusyBehavior.Value(f"BUSY_BEHAVIOR_{behavior}"),
        **more,
    )


async def test_a_queued_message_waits_for_its_turn(served: Served, busy: chat_pb2.Chat) -> None:
    """It keeps its id when it enters the history."""
    sent = await served.call("SendMessage", sending(busy, "next", "UNSPECIFIED"))
    assert sent.WhichOneof("placed") == "queued_message"
    assert sent.chat.queued_message_count == 1
    assert not sent.interrupted
    await served.clock.advance_to("sandbox.stall")
    await served.settled(busy.chat_id)
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=busy.chat_id))
    assert [it.role for it in listed.messages] == [
        message_pb2.ROLE_USER,
        message_pb2.ROLE_ASSISTANT,
    ] * 2
    assert listed.messages[2].message_id == sent.queued_message.message_id


async def test_a_message_that_does_not_want_to_wait_is_refused(
    served: Served, busy: chat_pb2.Chat
) -> None:
    """CHAT_BUSY with the status; nothing is queued."""
    refusal = await served.refused("SendMessage", sending(busy, "now", "REJECT"))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "CHAT_BUSY"
    assert refusal.metadata["status"] == "RUNNING"
    got = await served.call("GetChat", pb.GetChatRequest(chat_id=busy.chat_id))
    assert got.chat.queued_message_count == 0
    assert got.chat.revision == busy.revision


async def test_an_interrupt_keeps_what_the_answer_has(served: Served, busy: chat_pb2.Chat) -> None:
    """The partial text is committed, the turn ends as interrupted."""
    answer = await served.call("InterruptChat", pb.InterruptChatRequest(chat_id=busy.chat_id))
    assert answer.interrupted
    assert answer.sequence > busy.head_sequence
    await served.settled(busy.chat_id)
    assert (await words(served, busy.chat_id))[1] == "before"
    got = await served.call("GetChat", pb.GetChatRequest(chat_id=busy.chat_id))
    assert got.chat.stop_reason == chat_pb2.STOP_REASON_INTERRUPTED


async def test_a_message_may_interrupt(served: Served, busy: chat_pb2.Chat) -> None:
    """What the answer has is kept, and the message is answered next."""
    sent = await served.call("SendMessage", sending(busy, "stop that", "INTERRUPT"))
    assert sent.interrupted
    await served.settled(busy.chat_id)
    said_all = await words(served, busy.chat_id)
    assert said_all[1:3] == ["before", "stop that"]
    assert len(said_all) == 4


@pytest.mark.parametrize("method", ["InterruptChat", "SendMessage"])
async def test_only_the_expected_turn_is_cut(
    served: Served, busy: chat_pb2.Chat, method: str
) -> None:
    """A late interrupt must not stop the next answer."""
    request: Any = pb.InterruptChatRequest(chat_id=busy.chat_id, expected_turn_id=UNKNOWN)
    if method == "SendMessage":
        request = sending(busy, "wait", "INTERRUPT", expected_turn_id=UNKNOWN)
    assert not (await served.call(method, request)).interrupted
    request = pb.InterruptChatRequest(chat_id=busy.chat_id, expected_turn_id=busy.turn_id)
    assert (await served.call("InterruptChat", request)).interrupted
    await served.settled(busy.chat_id)


# --- client tools ----------------------------------------------------------------------------


@pytest.fixture
async def asking(served: Served) -> tool_pb2.PendingAction:
    """A chat that waits for two results."""
    tool = tool_pb2.ToolDefinition(name="look", description="looks", input_schema_json="")
    message = said('!call look {"at": "sky"}\n!call look {"at": "sea"}')
    created = await served.call("CreateChat", pb.CreateChatRequest(tools=[tool], message=message))
    events = await served.settled(created.chat.chat_id)
    assert any(it.event.WhichOneof("event") == "action_required" for it in events) or (
        events[0].event.snapshot.chat.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    )
    listed = await served.call("ListPendingActions", pb.ListPendingActionsRequest())
    action: tool_pb2.PendingAction = listed.actions[0]
    assert [it.arguments_json for it in action.tool_calls] == ['{"at": "sky"}', '{"at": "sea"}']
    return action


def submitting(action: tool_pb2.PendingAction, *call_ids: str) -> pb.SubmitToolResultsRequest:
    """Return results for these calls."""
    request = pb.SubmitToolResultsRequest(chat_id=action.chat_id, request_id=str(uuid.uuid4()))
    for call_id in call_ids:
        request.results.add(tool_call_id=call_id, output_json='{"seen": true}')
    return request


async def test_results_that_do_not_fit_are_told_all_at_once(
    served: Served, asking: tool_pb2.PendingAction
) -> None:
    """Missing, unexpected and repeated ids and text that is not JSON, each by its place."""
    first, second = (it.tool_call_id for it in asking.tool_calls)
    request = pb.SubmitToolResultsRequest(chat_id=asking.chat_id)
    request.results.add(tool_call_id=first, output_json="{")
    request.results.add(tool_call_id=first, output_json="NaN")
    request.results.add(tool_call_id="call_other", output_text="x")
    refusal = await served.refused("SubmitToolResults", request)
    assert refusal.reason == "TOOL_RESULTS_MISMATCH"
    assert refusal.fields == [
        "results[0].output_json",
        "results[1].tool_call_id",
        "results[1].output_json",
        "results[2].tool_call_id",
        "results",
    ]
    assert second in dict(refusal.violations)["results"]
    listed = await served.call("ListPendingActions", pb.ListPendingActionsRequest())
    assert list(listed.actions) == [asking]


async def test_results_let_the_turn_go_on(served: Served, asking: tool_pb2.PendingAction) -> None:
    """Exactly the pending calls; the same request again gets the same answer."""
    first, second = (it.tool_call_id for it in asking.tool_calls)
    request = submitting(asking, second, first)
    answer = await served.call("SubmitToolResults", request)
    assert answer.sequence > asking.sequence
    assert not answer.missing_tool_call_ids
    await served.settled(asking.chat_id)
    assert await served.call("SubmitToolResults", request) == answer

    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=asking.chat_id))
    results = [
        part.tool_result
        for it in listed.messages
        for part in it.parts
        if part.WhichOneof("kind") == "tool_result"
    ]
    assert [it.tool_call_id for it in results] == [first, second]
    assert {it.output_json for it in results} == {'{"seen": true}'}
    events = await served.call("ListEvents", pb.ListEventsRequest(chat_id=asking.chat_id))
    (resolved,) = (
        it.action_resolved for it in events.events if it.WhichOneof("event") == "action_resolved"
    )
    assert resolved.resolution == event_pb2.ACTION_RESOLUTION_SUBMITTED


async def test_the_first_writer_wins(served: Served, asking: tool_pb2.PendingAction) -> None:
    """The others get the chat's present status."""
    ids = [it.tool_call_id for it in asking.tool_calls]
    await served.call("SubmitToolResults", submitting(asking, *ids))
    await served.settled(asking.chat_id)
    refusal = await served.refused("SubmitToolResults", submitting(asking, *ids))
    assert refusal.reason == "NOT_WAITING_FOR_ACTION"
    assert refusal.metadata["status"] == "WAITING"


async def test_results_must_match_exactly_and_every_mismatch_is_told(
    served: Served, asking: tool_pb2.PendingAction
) -> None:
    """Missing, unexpected and repeated ids, all at once; the chat still waits."""
    first, second = (it.tool_call_id for it in asking.tool_calls)
    before = await served.call("GetChat", pb.GetChatRequest(chat_id=asking.chat_id))
    refusal = await served.refused(
        "SubmitToolResults", submitting(asking, first, first, "call_nobody")
    )
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "TOOL_RESULTS_MISMATCH"
    told = " ".join(f"{field} {words_}" for field, words_ in refusal.violations)
    for call_id in (first, second, "call_nobody"):
        assert call_id in told
    assert await served.call("GetChat", pb.GetChatRequest(chat_id=asking.chat_id)) == before
    await served.call("SubmitToolResults", submitting(asking, first, second))
    await served.settled(asking.chat_id)


async def test_calls_above_the_limit_are_answered_and_the_turn_goes_on(served: Served) -> None:
    """Calls up to the limit run, the others get an error, and the model gets all results."""
    calls = "\n".join(["!call current_time"] * 300)
    message = said(f"{calls}\n!step\n!say All were asked.")
    created = await served.call("CreateChat", pb.CreateChatRequest(message=message))
    await served.settled(created.chat.chat_id)
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=created.chat.chat_id))
    results = [
        part.tool_result
        for it in listed.messages
        for part in it.parts
        if part.WhichOneof("kind") == "tool_result"
    ]
    asked = [it.tool_call.tool_call_id for it in listed.messages[1].parts]
    assert sorted(it.tool_call_id for it in results) == sorted(asked)
    refused = {it.tool_call_id for it in results if it.is_error}
    assert refused == set(asked[256:])
    assert listed.messages[-1].parts[0].text.text == "All were asked."


async def test_a_failed_turn_is_not_open(served: Served) -> None:
    """`turn_id` names the open turn: a chat in ERROR has none, and neither has its log."""
    message = said("!error auth")
    created = await served.call("CreateChat", pb.CreateChatRequest(message=message))
    assert created.chat.turn_id
    await served.settled(created.chat.chat_id)
    got = await served.call("GetChat", pb.GetChatRequest(chat_id=created.chat.chat_id))
    assert got.chat.status == chat_pb2.CHAT_STATUS_ERROR
    assert got.chat.stop_reason == chat_pb2.STOP_REASON_ERROR
    assert not got.chat.turn_id
