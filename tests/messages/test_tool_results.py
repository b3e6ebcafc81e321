"""SubmitToolResults while others act on the same turn: races, deadlines, edits, interrupts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import AttemptKind
from chatd_server.domain.command import RequireAction
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.message import Executor, ToolCall, ToolResult
from tests.kit.server import Served, refusal_of, said
from tests.messages import states
from tests.messages.states import refusal
from tests.subscribe.scene import WORKER, Chat, Edge

SUBMITTERS = 10
DEADLINE_SECONDS = 301


def results(chat_id: str, *call_ids: str, partial: bool = False) -> pb.SubmitToolResultsRequest:
    """Return results of these calls."""
    request = pb.SubmitToolResultsRequest(chat_id=chat_id, allow_partial=partial)
    for call_id in call_ids:
        request.results.add(tool_call_id=call_id, output_text=f"result of {call_id}")
    return request


async def outputs(edge: Edge, chat: Chat) -> dict[str, tuple[str, int]]:
    """Return what each call was answered, and with which kind of error."""
    return {
        part.tool_result.tool_call_id: (part.tool_result.output_text, part.tool_result.error_kind)
        for message in await states.history(edge, chat)
        for part in message.parts
        if part.WhichOneof("kind") == "tool_result"
    }


@pytest.mark.parametrize("partial", [False, True])
async def test_of_ten_submissions_one_is_taken(edge: Edge, partial: bool) -> None:
    """The others are told that the chat does not wait any more, and with what status."""
    chat = await states.asking(edge)

    async def submit() -> str:
        try:
            await edge.call("SubmitToolResults", results(chat.id, "c1", "c2", partial=partial))
        except grpc.aio.AioRpcError as error:
            told = refusal_of(error)
            assert told.code is grpc.StatusCode.FAILED_PRECONDITION
            assert told.metadata["status"] == "PENDING"
            return told.reason
        return "taken"

    outcomes = sorted(await asyncio.gather(*(submit() for _ in range(SUBMITTERS))))
    assert outcomes == ["NOT_WAITING_FOR_ACTION"] * (SUBMITTERS - 1) + ["taken"]
    assert list(await outputs(edge, chat)) == ["c1", "c2"]
    assert (await states.get(edge, chat)).status == chat_pb2.CHAT_STATUS_PENDING


async def expire(edge: Edge, _: Chat) -> None:
    """The deadline passes, and a worker sees it."""
    await edge.clock.advance(DEADLINE_SECONDS)
    assert await edge.store.expire_actions(WORKER, 10) == 1


async def edit(edge: Edge, chat: Chat) -> None:
    """The message is replaced."""
    message_id = (await states.history(edge, chat))[0].message_id
    request = pb.EditMessageRequest(chat_id=chat.id, message_id=message_id, message=said("anew"))
    await edge.call("EditMessage", request)


async def interrupt(edge: Edge, chat: Chat) -> None:
    """The turn is stopped."""
    await edge.call("InterruptChat", pb.InterruptChatRequest(chat_id=chat.id))


async def send(edge: Edge, chat: Chat) -> None:
    """Another message takes the place of the turn."""
    busy = chat_pb2.BUSY_BEHAVIOR_INTERRUPT
    request = pb.SendMessageRequest(chat_id=chat.id, message=said("no"), busy_behavior=busy)
    await edge.call("SendMessage", request)


async def promote(edge: Edge, chat: Chat) -> None:
    """A queued message takes the place of the turn."""
    (message_id,) = await states.queue(edge, chat, "now")
    request = pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=message_id)
    await edge.call("PromoteQueuedMessage", request)


async def delete(edge: Edge, chat: Chat) -> None:
    """The chat is gone."""
    await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=chat.id))


EXPIRED = message_pb2.TOOL_ERROR_KIND_EXPIRED
INTERRUPTED = message_pb2.TOOL_ERROR_KIND_INTERRUPTED
Leave = Callable[[Edge, Chat], Awaitable[None]]


@pytest.mark.parametrize(
    ("leave", "kind"),
    [(expire, EXPIRED), (interrupt, INTERRUPTED), (send, INTERRUPTED), (promote, INTERRUPTED)],
)
async def test_results_that_come_too_late_are_refused(edge: Edge, leave: Leave, kind: int) -> None:
    """NOT_WAITING_FOR_ACTION; what the service answered for the client stands."""
    chat = await states.asking(edge)
    await leave(edge, chat)
    answered = await outputs(edge, chat)
    assert {it for _, it in answered.values()} == {kind}
    told = await refusal(edge, "SubmitToolResults", results(chat.id, "c1", "c2"))
    assert told.reason == "NOT_WAITING_FOR_ACTION"
    assert await outputs(edge, chat) == answered


@pytest.mark.parametrize(
    ("leave", "kind"), [(expire, EXPIRED), (interrupt, INTERRUPTED), (promote, INTERRUPTED)]
)
async def test_what_was_kept_is_the_result_when_the_rest_never_comes(
    edge: Edge, leave: Leave, kind: int
) -> None:
    """Only the calls that are still open are answered by the service."""
    chat = await states.asking(edge)
    await edge.call("SubmitToolResults", results(chat.id, "c2", partial=True))
    await leave(edge, chat)
    answered = await outputs(edge, chat)
    assert list(answered) == ["c1", "c2"]
    assert answered["c1"][1] == kind
    assert answered["c2"] == ("result of c2", message_pb2.TOOL_ERROR_KIND_UNSPECIFIED)


async def test_results_after_an_edit_belong_to_no_call(edge: Edge) -> None:
    """The calls were removed with their answer: nothing is written for them."""
    chat = await states.asking(edge)
    await edge.call("SubmitToolResults", results(chat.id, "c1", partial=True))
    await edit(edge, chat)
    told = await refusal(edge, "SubmitToolResults", results(chat.id, "c2"))
    assert told.reason == "NOT_WAITING_FOR_ACTION"
    assert await outputs(edge, chat) == {}


async def test_results_for_a_deleted_chat_are_not_found(edge: Edge) -> None:
    """As every other call."""
    chat = await states.asking(edge)
    await delete(edge, chat)
    told = await refusal(edge, "SubmitToolResults", results(chat.id, "c1", "c2"))
    assert told.reason == "CHAT_NOT_FOUND"


async def test_results_past_the_deadline_count_until_a_worker_has_seen_it(edge: Edge) -> None:
    """The order of the database decides, not the clock of the client."""
    chat = await states.asking(edge)
    await edge.clock.advance(DEADLINE_SECONDS)
    answer = await edge.call("SubmitToolResults", results(chat.id, "c1", "c2"))
    assert answer.chat.status == chat_pb2.CHAT_STATUS_PENDING
    assert await edge.store.expire_actions(WORKER, 10) == 0


async def test_results_of_an_earlier_action_do_not_answer_the_next_one(edge: Edge) -> None:
    """The chat waits again, for other calls: a late submission is a mismatch, and is not kept."""
    chat = await states.asking(edge)
    await edge.call("SubmitToolResults", results(chat.id, "c1", "c2"))
    await states.refresh(chat)
    await chat.acquire()
    await chat.begin()
    await chat.commit(states.client_call("c3"))
    await chat.do(RequireAction(**chat.hold()))
    told = await refusal(edge, "SubmitToolResults", results(chat.id, "c1", "c2"))
    assert told.reason == "TOOL_RESULTS_MISMATCH"
    assert [it.removesuffix(".tool_call_id") for it in told.fields] == [
        "results[0]",
        "results[1]",
        "results",
    ]
    listed = await edge.call("ListPendingActions", pb.ListPendingActionsRequest())
    assert [it.tool_call_id for it in listed.actions[0].tool_calls] == ["c3"]


async def test_an_interrupt_of_a_turn_that_is_over_leaves_the_action_of_the_next(
    edge: Edge,
) -> None:
    """It succeeds and cuts nothing."""
    chat = await states.waiting(edge)
    old = (await states.history(edge, chat))[0].turn_id
    await chat.send("look")
    await chat.acquire()
    await chat.begin()
    await chat.commit(states.client_call("c1"))
    await chat.do(RequireAction(**chat.hold()))
    request = pb.InterruptChatRequest(chat_id=chat.id, expected_turn_id=old)
    answer = await edge.call("InterruptChat", request)
    assert not answer.interrupted
    assert answer.chat.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    await edge.call("SubmitToolResults", results(chat.id, "c1"))


async def test_a_promotion_answers_only_the_calls_of_the_client(edge: Edge) -> None:
    """In a mixed step the results of ours are neither repeated nor replaced."""
    chat = await states.running(edge)
    await chat.begin()
    ours = ToolCall(ToolCallId("s1"), "shell", "{}", Executor.SERVER, created_at=0)
    await chat.commit(ours, states.client_call("c1"))
    await chat.begin(AttemptKind.TOOLS)
    await chat.commit_results([ToolResult(ours.id, "shell", "done", Executor.SERVER, 0)])
    await chat.do(RequireAction(**chat.hold()))
    await promote(edge, chat)
    assert await outputs(edge, chat) == {
        "s1": ("done", message_pb2.TOOL_ERROR_KIND_UNSPECIFIED),
        "c1": ((await outputs(edge, chat))["c1"][0], INTERRUPTED),
    }
    kinds = [it.role for it in await states.history(edge, chat)]
    assert kinds == [
        message_pb2.ROLE_USER,
        message_pb2.ROLE_ASSISTANT,
        message_pb2.ROLE_TOOL,
        message_pb2.ROLE_TOOL,
        message_pb2.ROLE_USER,
    ]


# --- with the worker -------------------------------------------------------------------------


async def mixed(served: Served, text: str) -> tuple[str, Any]:
    """Return a chat with the client's tool `look` and what it asks for."""
    tool = tool_pb2.ToolDefinition(name="look")
    created = await served.call(
        "CreateChat", pb.CreateChatRequest(tools=[tool], message=said(text))
    )
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    listed = await served.call("ListPendingActions", pb.ListPendingActionsRequest(chat_id=chat_id))
    return chat_id, listed.actions[0]


async def test_built_in_calls_of_a_step_are_answered_before_the_client_is_asked(
    served: Served,
) -> None:
    """Their results are committed, the client's follow, and the model is asked once more."""
    chat_id, action = await mixed(
        served, '!call sandbox_lookup {"key": "a"}\n!call look {}\n!step\n!say Thank you.'
    )
    (wanted,) = action.tool_calls
    assert wanted.tool_name == "look"
    await served.call("SubmitToolResults", results(chat_id, wanted.tool_call_id))
    await served.settled(chat_id)
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    names = [
        [part.tool_result.tool_name for part in it.parts]
        for it in listed.messages
        if it.role == message_pb2.ROLE_TOOL
    ]
    assert names == [["sandbox_lookup"], ["look"]]
    answers = [it for it in listed.messages if it.role == message_pb2.ROLE_ASSISTANT]
    assert len(answers) == 2
    assert states.text_of(answers[-1]) == "Thank you."


async def test_queued_messages_wait_for_the_end_of_a_turn_that_asks(served: Served) -> None:
    """A message that was sent meanwhile begins its turn behind the answer to the results."""
    chat_id, action = await mixed(served, "!call look {}\n!step\n!say Thank you.")
    sent = await served.call(
        "SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said("!say next"))
    )
    assert sent.chat.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    await served.call("SubmitToolResults", results(chat_id, action.tool_calls[0].tool_call_id))
    await served.settled(chat_id)
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    assert [states.text_of(it) for it in listed.messages][-3:] == [
        "Thank you.",
        "!say next",
        "next",
    ]
