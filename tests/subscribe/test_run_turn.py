"""RunTurn: a message is sent, and the stream ends with its own turn, queued or not."""

import uuid
from typing import Any

import pytest

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import ChatConfig, ClientTool
from chatd_server.domain.command import (
    DeleteChat,
    DeleteQueued,
    EditMessage,
    Fail,
    FinishInterruption,
    Interrupt,
    RequireAction,
    SubmittedResult,
    SubmitToolResults,
)
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import Executor, Text, ToolCall
from tests.kit.script import MODEL
from tests.kit.server import refused, said
from tests.subscribe.follower import Follower
from tests.subscribe.scene import Chat, Edge

UNTIL_REACHED = event_pb2.STREAM_END_REASON_UNTIL_REACHED
TOOLS = ChatConfig(model=MODEL, tools=(ClientTool("ask"),))


class Run(Follower):
    """A client that sends with RunTurn, and goes on with Subscribe when it was cut."""

    def __init__(self, edge: Edge, chat: Chat, text: str = "and now?", **request: Any) -> None:
        after = request.pop("after", chat.state.head_sequence)
        super().__init__(edge.stub, edge.auth, chat.id, {})
        self.cursor = chat_pb2.Cursor(sequence=after)
        request.setdefault("message", said(text))
        sent = pb.RunTurnRequest(chat_id=chat.id, **request)
        self._call = edge.stub.RunTurn(sent, metadata=edge.auth)

    async def read_to(self, chat: Chat) -> None:
        """Read the log so far, and take the chat for its worker."""
        chat.state = await chat.edge.store.load(chat.id)
        await self.until_sequence(chat.state.head_sequence)
        await chat.acquire()

    @property
    def own_turn(self) -> str:
        """The turn of the first message of a user that came."""
        return next(
            it.message_committed.message.turn_id
            for it in self.events
            if it.HasField("message_committed") and not it.message_committed.message.model
        )


async def ask(chat: Chat) -> None:
    """Call a tool of the client."""
    await chat.begin()
    now = chat.edge.clock.now()
    call = ToolCall(ToolCallId("c1"), "ask", "{}", executor=Executor.CLIENT, created_at=now)
    await chat.commit(call)
    await chat.do(RequireAction(**chat.hold()))


async def test_the_stream_ends_with_the_turn_of_its_message(edge: Edge) -> None:
    """It begins with the message; text comes live and then committed."""
    chat = await edge.chat("")
    run = Run(edge, chat)
    await run.until("message_committed")
    await run.read_to(chat)
    writer = await chat.begin()
    writer.append(0, PieceKind.TEXT, "soon ")
    await run.until("message_part")
    writer.append(0, PieceKind.TEXT, "enough")
    await chat.commit("soon enough")
    await chat.finish()
    assert (await run.to_the_end()).reason == UNTIL_REACHED
    assert run.events[0].message_committed.message.parts[0].text.text == "and now?"
    assert run.events[-1].status_changed.stop_reason == chat_pb2.STOP_REASON_END_TURN
    assert len(run.messages) == 0
    assert run.complete(chat.attempt_id)


async def test_a_queued_message_is_followed_behind_the_turn_before_it(edge: Edge) -> None:
    """The end of the turn before is not its end; nor does what is queued behind it belong to it."""
    chat = await edge.chat("first")
    run = Run(edge, chat)
    queued = await run.until("queue_changed")
    assert [it.preview for it in queued.queue_changed.entries] == ["and now?"]
    await chat.send("third")
    await chat.answer("one")
    await chat.finish()
    await run.read_to(chat)
    assert run.end is None
    await chat.answer("two")
    await chat.finish()
    assert (await run.to_the_end()).reason == UNTIL_REACHED
    last = run.events[-1].status_changed
    assert last.stop_reason == chat_pb2.STOP_REASON_END_TURN
    mine = [it.message_committed.message for it in run.events if it.HasField("message_committed")]
    assert [it.parts[0].text.text for it in mine[:3]] == ["one", "and now?", "two"]
    assert last.turn_id == mine[1].turn_id
    assert chat.state.turn is not None


async def test_a_message_that_leaves_the_queue_ends_its_stream(edge: Edge) -> None:
    """Deleted, or removed by an edit: there is no turn to wait for."""
    chat = await edge.chat("first")
    deleted, edited = Run(edge, chat), None
    await deleted.until("queue_changed")
    state = await edge.store.load(chat.id)
    await chat.do(DeleteQueued(command_id=chat.command_id(), message_id=state.queue[0].id))
    assert (await deleted.to_the_end()).reason == UNTIL_REACHED
    edited = Run(edge, chat)
    await edited.until("queue_changed")
    await chat.do(EditMessage(command_id=chat.command_id(), position=1, parts=(Text("again"),)))
    assert (await edited.to_the_end()).reason == UNTIL_REACHED
    assert edited.kinds[-2:] == ["queue_changed", "stream_end"]


async def test_an_interrupted_turn_ends_its_stream(edge: Edge) -> None:
    """Pieces that were not kept are taken back before the end."""
    chat = await edge.chat("")
    run = Run(edge, chat)
    await run.until("message_committed")
    await run.read_to(chat)
    (await chat.begin()).append(0, PieceKind.TEXT, "lost")
    await run.until("message_part")
    await chat.do(Interrupt(command_id=chat.command_id()))
    await chat.do(FinishInterruption(**chat.hold()))
    assert (await run.to_the_end()).reason == UNTIL_REACHED
    assert run.kinds[-3:] == ["status_changed", "preview_reset", "stream_end"]
    assert run.events[-1].status_changed.stop_reason == chat_pb2.STOP_REASON_INTERRUPTED


async def test_a_message_that_cuts_a_turn_follows_its_own(edge: Edge) -> None:
    """With INTERRUPT the stream shows the end of the other turn, and goes on to its own."""
    chat = await edge.chat("first")
    await chat.begin()
    run = Run(edge, chat, busy_behavior=chat_pb2.BUSY_BEHAVIOR_INTERRUPT)
    await run.until("status_changed")
    chat.state = await edge.store.load(chat.id)
    await chat.do(FinishInterruption(**chat.hold()))
    await run.read_to(chat)
    await chat.answer("mine")
    await chat.finish()
    await run.to_the_end()
    ends = [it.status_changed for it in run.events if it.status_changed.stop_reason]
    assert [it.stop_reason for it in ends] == [
        chat_pb2.STOP_REASON_INTERRUPTED,
        chat_pb2.STOP_REASON_END_TURN,
    ]
    assert ends[1].turn_id == run.own_turn


async def test_a_failed_turn_ends_its_stream_with_the_error(edge: Edge) -> None:
    """Failures of models are data: the stream ends OK."""
    chat = await edge.chat("")
    run = Run(edge, chat)
    await run.until("message_committed")
    await run.read_to(chat)
    error = failure(ErrorKind.AUTH, "the model needs a key").error
    await chat.do(Fail(**chat.hold(), error=error))
    assert (await run.to_the_end()).reason == UNTIL_REACHED
    assert run.events[-1].status_changed.last_error.message == error.message


async def test_a_message_behind_a_failed_turn_is_not_that_turn(edge: Edge) -> None:
    """The queue waits for a person after an error, and its streams with it."""
    chat = await edge.chat("first")
    queued = Run(edge, chat)
    await queued.until("queue_changed")
    error = failure(ErrorKind.AUTH, "the model needs a key").error
    await chat.do(Fail(**chat.hold(), error=error))
    behind = Run(edge, chat, "last")
    await behind.until("message_committed")
    await queued.read_to(chat)
    await chat.answer("hello")
    await chat.finish()
    await queued.to_the_end()
    await behind.read_to(chat)
    assert behind.end is None
    await chat.answer("bye")
    await chat.finish()
    await behind.to_the_end()
    assert "queue_changed" in behind.kinds


@pytest.mark.parametrize("until_action", [False, True])
async def test_a_turn_with_client_tools_ends_where_the_client_asked(
    edge: Edge, until_action: bool
) -> None:
    """With until_action at the action, after action_required; without, when the turn is over."""
    chat = await edge.chat("", config=TOOLS)
    request_id = str(uuid.uuid4())
    after = chat.state.head_sequence
    run = Run(edge, chat, until_action=until_action, request_id=request_id)
    await run.until("message_committed")
    await run.read_to(chat)
    await ask(chat)
    if until_action:
        assert (await run.to_the_end()).reason == UNTIL_REACHED
        assert "action_required" in run.kinds
        assert run.events[-1].status_changed.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    result = SubmittedResult(ToolCallId("c1"), "42", is_json=False)
    await chat.do(SubmitToolResults(command_id=chat.command_id(), results=(result,)))
    if until_action:  # asked again, it goes on: that action is over
        run = Run(edge, chat, until_action=True, request_id=request_id, after=after)
        await run.until("caught_up")
    await run.read_to(chat)
    await chat.answer("forty-two")
    await chat.finish()
    await run.to_the_end()
    assert run.events[-1].status_changed.stop_reason == chat_pb2.STOP_REASON_END_TURN


async def test_another_turns_action_is_not_the_end(edge: Edge) -> None:
    """Also with until_action a queued message waits for its own turn."""
    chat = await edge.chat("first", config=TOOLS)
    await ask(chat)
    run = Run(edge, chat, until_action=True)
    await run.until("caught_up")
    result = SubmittedResult(ToolCallId("c1"), "42", is_json=False)
    await chat.do(SubmitToolResults(command_id=chat.command_id(), results=(result,)))
    await chat.acquire()
    await chat.answer("one")
    await chat.finish()
    await run.read_to(chat)
    await chat.answer("two")
    await chat.finish()
    await run.to_the_end()
    assert run.events[-1].status_changed.turn_id == run.events[-2].message_committed.message.turn_id


async def test_a_repeated_request_id_gets_the_same_turn(edge: Edge) -> None:
    """Nothing is sent twice; the stream is that of the first, and ends where it ended."""
    chat = await edge.chat("")
    request_id = str(uuid.uuid4())
    first = Run(edge, chat, request_id=request_id)
    after = chat.state.head_sequence
    await first.until("message_committed")
    await first.read_to(chat)
    (await chat.begin()).append(0, PieceKind.TEXT, "yes")
    during = Run(edge, chat, request_id=request_id, after=after)
    await during.until("message_part")
    await chat.commit("yes")
    await chat.finish()
    await first.to_the_end()
    await during.to_the_end()
    await chat.send("something else")
    later = Run(edge, chat, request_id=request_id, after=after)
    await later.to_the_end()
    assert first.events == during.events == later.events
    other = pb.RunTurnRequest(chat_id=chat.id, request_id=request_id, message=said("other"))
    refusal = await refused(lambda: edge.stub.RunTurn(other, metadata=edge.auth).read())
    assert refusal.reason == "REQUEST_ID_REUSED"


async def test_a_cut_stream_goes_on_with_subscribe(edge: Edge) -> None:
    """The cursors are those of Subscribe, also in the middle of an answer."""
    chat = await edge.chat("")
    run = Run(edge, chat)
    await run.until("message_committed")
    await run.read_to(chat)
    writer = await chat.begin()
    writer.append(0, PieceKind.TEXT, "one ")
    await run.until("message_part")
    run.cut()
    writer.append(0, PieceKind.TEXT, "two")
    await run.until_offset(len("one two"))
    await chat.commit("one two")
    await chat.finish()
    await run.until_sequence(chat.state.head_sequence)
    assert run.complete(chat.attempt_id)
    await run.close()


async def test_a_refused_message_is_a_refused_stream(edge: Edge) -> None:
    """As SendMessage refuses: busy, wrong, of nobody."""
    chat = await edge.chat("first")
    for reason, request in {
        "CHAT_BUSY": pb.RunTurnRequest(
            chat_id=chat.id, message=said("x"), busy_behavior=chat_pb2.BUSY_BEHAVIOR_REJECT
        ),
        "INVALID_FIELD": pb.RunTurnRequest(chat_id=chat.id),
        "MODEL_NOT_FOUND": pb.RunTurnRequest(
            chat_id=chat.id, message=said("x"), options=chat_pb2.TurnOptions(model="no/such")
        ),
        "CHAT_NOT_FOUND": pb.RunTurnRequest(chat_id="no uuid", message=said("x")),
    }.items():
        refusal = await refused(
            lambda request=request: edge.stub.RunTurn(request, metadata=edge.auth).read()  # type: ignore[misc]  # bound per turn
        )
        assert refusal.reason == reason
    assert (edge.hub.stream_count, (await edge.store.load(chat.id)).queue) == (0, ())


async def test_a_server_that_drains_sends_no_message(edge: Edge) -> None:
    """Who cannot be followed is not sent: the client asks another server."""
    chat = await edge.chat("")
    edge.hub.drain()
    request = pb.RunTurnRequest(chat_id=chat.id, message=said("x"))
    refusal = await refused(lambda: edge.stub.RunTurn(request, metadata=edge.auth).read())
    assert refusal.reason == "DRAINING"
    assert (await edge.store.load(chat.id)).head_sequence == chat.state.head_sequence


async def test_a_deleted_chat_ends_the_stream(edge: Edge) -> None:
    """Its turn ends with it."""
    chat = await edge.chat("")
    run = Run(edge, chat)
    await run.until("caught_up")
    await chat.do(DeleteChat(command_id=chat.command_id()))
    assert (await run.to_the_end()).reason == UNTIL_REACHED
