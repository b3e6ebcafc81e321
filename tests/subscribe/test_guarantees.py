"""The nine guarantees of the contract, each with tests of its name, on both databases."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, event_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import AttemptKind, ChatConfig, ClientTool
from chatd_server.domain.command import RequireAction
from chatd_server.domain.ids import MICROSECONDS, ToolCallId
from chatd_server.domain.live import CallHead, PieceKind
from chatd_server.domain.message import Executor, Reasoning, Text, ToolCall, ToolResult
from tests.kit.script import MODEL
from tests.kit.server import refused, said
from tests.subscribe.scene import WORKER, Chat, Edge

TEXT = "so it goes: ünï \N{GRINNING FACE} and on"


async def listed(edge: Edge, chat: Chat) -> list[event_pb2.ChatEvent]:
    """Return the whole log by ListEvents."""
    request = pb.ListEventsRequest(chat_id=chat.id, page_size=200)
    response = await edge.call("ListEvents", request)
    assert response.head_sequence == len(response.events)
    return list(response.events)


def cursor(chat: Chat, offset: int) -> chat_pb2.Cursor:
    """Return a cursor inside the open attempt."""
    head = chat.state.head_sequence
    return chat_pb2.Cursor(sequence=head, attempt_id=chat.attempt_id, delta_offset=offset)


async def test_guarantee_1_all_subscribers_see_the_same_numbers_without_gaps(edge: Edge) -> None:
    """Number n is the same event for every subscriber, whenever it comes."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id), edge.follow(chat.id, include_deltas=False)]
    for follower in followers:
        await follower.until("caught_up")
    for turn in range(3):
        await chat.answer(f"answer {turn}")
        await chat.begin()
        await chat.retry()
        await chat.send("and then?")
        followers.append(edge.follow(chat.id, resume_from=chat_pb2.Cursor()))
        followers.append(edge.follow(chat.id))
        await chat.answer("now it works")
        await chat.finish()
        await chat.acquire()
    log = await listed(edge, chat)
    assert [event.sequence for event in log] == list(range(1, chat.state.head_sequence + 1))
    for follower in followers:
        await follower.until_sequence(len(log))
        first = follower.events[0].sequence if follower.events else len(log) + 1
        assert follower.events == log[first - 1 :]
        await follower.close()


async def test_guarantee_2_replay_then_live_on_one_stream(edge: Edge) -> None:
    """A cursor at any event gives exactly what follows it, and then what happens."""
    chat = await edge.chat()
    for turn in range(3):
        await chat.answer(f"answer {turn}")
    head = chat.state.head_sequence
    followers = [
        edge.follow(chat.id, resume_from=chat_pb2.Cursor(sequence=sequence))
        for sequence in range(head + 1)
    ]
    for follower in followers:
        await follower.until("caught_up")
        assert follower.cursor == chat_pb2.Cursor(sequence=head)
        assert "message_part" not in follower.kinds, "what is committed needs no pieces"
    await chat.answer("live")
    log = await listed(edge, chat)
    for sequence, follower in enumerate(followers):
        await follower.until_sequence(chat.state.head_sequence)
        assert follower.events == log[sequence:]
        assert follower.complete(chat.attempt_id)
        await follower.close()


async def test_guarantee_2_a_cursor_inside_an_attempt_gets_exactly_the_missing_text(
    edge: Edge,
) -> None:
    """A client can resume at any byte offset that it was sent."""
    chat = await edge.chat()
    writer = await chat.begin()
    writer.append(0, PieceKind.REASONING, "hm")
    writer.append(1, PieceKind.TEXT, TEXT)
    spoken = "hm" + TEXT
    for length in range(len(spoken) + 1):
        offset = len(spoken[:length].encode())
        follower = edge.follow(chat.id, resume_from=cursor(chat, offset))
        follower.open_attempt, follower.offset = chat.attempt_id, offset
        await follower.until("caught_up")
        parts = follower.previews.get(chat.attempt_id, {})
        assert parts.get(0, "") + parts.get(1, "") == spoken[length:]
        assert follower.events == []
        await follower.close()


async def test_guarantee_2_a_client_that_is_cut_after_every_response_misses_nothing(
    edge: Edge,
) -> None:
    """A client that is cut again and again has what one that stayed has."""
    chat = await edge.chat()
    stayed, cut = edge.follow(chat.id), edge.follow(chat.id)
    await stayed.until("caught_up")
    await cut.until("caught_up")
    await chat.begin()
    call = ToolCallId("call_1")
    for word in TEXT.split(" "):
        cut.cut()
        chat.writer.append(0, PieceKind.TEXT, word)
        await cut.until_offset(cut.offset + len(word.encode()))
    chat.writer.add(1, PieceKind.CALL, CallHead(call, "look", Executor.SERVER))
    await cut.until("message_part")
    for arguments in ("{", "}"):
        cut.cut()
        chat.writer.append(1, PieceKind.CALL, arguments)
        await cut.until("message_part")
    cut.cut()
    text = "".join(TEXT.split(" "))
    await chat.commit(text, ToolCall(call, "look", "{}", Executor.SERVER, created_at=1))
    await cut.until("message_committed")
    await stayed.until("message_committed")
    assert cut.previews == stayed.previews == {chat.attempt_id: {0: text, 1: "{}"}}
    assert cut.events == stayed.events
    await stayed.close()
    await cut.close()


async def test_guarantee_2_a_cursor_from_before_a_retry_gets_a_reset(edge: Edge) -> None:
    """The pieces of an attempt that failed while the client was away are reset."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    (await chat.begin()).append(0, PieceKind.TEXT, "lost")
    await follower.until("message_part")
    follower.cut()
    lost = chat.attempt_id
    await chat.retry()
    (await chat.begin()).append(0, PieceKind.TEXT, "found")
    follower.kinds.clear()
    await follower.until("caught_up")
    assert follower.kinds == ["retry_scheduled", "preview_reset", "message_part", "caught_up"]
    assert follower.resets == [lost]
    await chat.commit("found")
    await follower.until("message_committed")
    assert follower.complete(chat.attempt_id)
    await follower.close()


async def test_guarantee_2_a_cursor_from_before_a_sigkill_gets_a_reset(serve: Any) -> None:
    """The pieces died with the process; the client learns it before anything live."""
    async with serve() as edge:
        chat = await edge.chat()
        follower = edge.follow(chat.id)
        await follower.until("caught_up")
        (await chat.begin()).append(0, PieceKind.TEXT, "lost")
        await follower.until("message_part")
        cut_at, lost = follower.cursor, chat.attempt_id
        await follower.close()
    async with serve() as edge:
        await edge.clock.advance(31)
        await edge.store.rescue(WORKER, 10)
        chat.edge = edge
        await chat.acquire()
        (await chat.begin()).append(0, PieceKind.TEXT, "found")
        again = edge.follow(chat.id, resume_from=cut_at)
        again.open_attempt, again.offset = lost, 4
        await again.until("caught_up")
        assert again.kinds == [
            "status_changed",
            "status_changed",
            "preview_reset",
            "message_part",
            "caught_up",
        ]
        await chat.commit("found")
        await again.until("message_committed")
        assert again.complete(chat.attempt_id)
        await again.close()


async def test_guarantee_4_pieces_are_a_prefix_and_equal_the_text_for_who_was_there(
    edge: Edge,
) -> None:
    """Equal for one that stayed and one that came back inside; a prefix for one that was away."""
    chat = await edge.chat()
    stayed, back, away = (edge.follow(chat.id) for _ in range(3))
    for follower in (stayed, back, away):
        await follower.until("caught_up")
    writer = await chat.begin()
    call = ToolCall(ToolCallId("call_1"), "look", '{"a":"é"}', Executor.SERVER, created_at=1)
    writer.append(0, PieceKind.REASONING, "let me ")
    for follower in (stayed, back, away):
        await follower.until("message_part")
    back.cut()
    away.cut()
    writer.append(0, PieceKind.REASONING, "see")
    writer.append(1, PieceKind.TEXT, TEXT)
    await back.until("caught_up")
    writer.add(2, PieceKind.CALL, CallHead(call.id, call.name, call.executor))
    writer.append(2, PieceKind.CALL, call.arguments)
    await chat.commit(Reasoning("let me see"), Text(TEXT), call)
    for follower in (stayed, back, away):
        await follower.until("message_committed")
    whole = {0: "let me see", 1: TEXT, 2: call.arguments}
    assert stayed.previews[chat.attempt_id] == whole
    assert back.previews[chat.attempt_id] == whole
    assert away.previews[chat.attempt_id] == {0: "let me "}
    for follower in (stayed, back, away):
        await follower.close()


async def test_guarantee_5_pieces_stay_between_the_events_around_their_attempt(
    edge: Edge,
) -> None:
    """What precedes an attempt comes before it, what closes it after, a reset between two."""
    chat = await edge.chat()
    first = edge.follow(chat.id)
    await first.until("caught_up")
    first.kinds.clear()
    (await chat.begin()).append(0, PieceKind.TEXT, "lost")
    await first.until("message_part")
    await chat.retry()
    await first.until("preview_reset")
    old_writer = chat.writer
    (await chat.begin()).append(0, PieceKind.TEXT, "found")
    old_writer.append(0, PieceKind.TEXT, "too late")
    await first.until("message_part")
    await chat.send("next")
    await first.until("queue_changed")
    chat.writer.append(0, PieceKind.TEXT, "!")
    await first.until("message_part")
    late = edge.follow(chat.id, resume_from=chat_pb2.Cursor())
    await late.until("caught_up")
    pieces = late.kinds.index("message_part")
    assert "message_part" not in late.kinds[: late.kinds.index("queue_changed")]
    assert late.kinds[pieces:] == ["message_part", "caught_up"]
    await chat.commit("found!")
    await first.until("message_committed")
    assert first.kinds == [
        "message_part",
        "retry_scheduled",
        "preview_reset",
        "message_part",
        "queue_changed",
        "message_part",
        "message_committed",
    ]
    await first.close()
    await late.close()


async def test_guarantee_6_the_end_of_a_stream_changes_no_chat(edge: Edge) -> None:
    """Cut, left, ended by itself or by the server: the chat does not notice."""
    chat = await edge.chat()
    (await chat.begin()).append(0, PieceKind.TEXT, "so")
    before = await edge.store.load(chat.id)
    cut, left = edge.follow(chat.id), edge.follow(chat.id, include_deltas=False)
    await cut.until("message_part")
    await left.until("caught_up")
    cut.cut()
    await left.close()
    resumed = edge.follow(chat.id, resume_from=cut.cursor)
    await resumed.until("snapshot")  # cut before caught_up: the snapshot was not finished
    await resumed.until("caught_up")
    assert cut.end is None
    edge.hub.drain()
    assert (await resumed.to_the_end()).reason == event_pb2.STREAM_END_REASON_DRAINING
    assert await edge.store.load(chat.id) == before
    chat.writer.append(0, PieceKind.TEXT, " it goes")
    await chat.commit("so it goes")


async def test_guarantee_7_a_cursor_out_of_range_is_refused_before_anything_is_sent(
    edge: Edge,
) -> None:
    """Too old: CURSOR_EXPIRED, beyond the head: CURSOR_AHEAD, both with what the log has."""
    chat = await edge.chat()
    for number in range(3):
        await chat.answer(f"answer {number}")
    await edge.clock.advance(60)
    await edge.store.prune_events(edge.clock.now() - 30 * MICROSECONDS)
    await chat.answer("after that")
    state = await edge.store.load(chat.id)
    assert state.oldest_sequence > 2
    facts = {
        "oldest_sequence": str(state.oldest_sequence),
        "head_sequence": str(state.head_sequence),
    }
    for sequence, reason in (
        (state.oldest_sequence - 2, "CURSOR_EXPIRED"),
        (state.head_sequence + 1, "CURSOR_AHEAD"),
    ):
        follower = edge.follow(chat.id, resume_from=chat_pb2.Cursor(sequence=sequence))
        refusal = await refused(follower.next)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, reason)
        assert refusal.metadata == facts
        assert follower.responses == 0
    oldest = chat_pb2.Cursor(sequence=state.oldest_sequence - 1)
    follower = edge.follow(chat.id, resume_from=oldest)
    await follower.until_sequence(state.head_sequence)
    await follower.close()


def asking() -> ChatConfig:
    """Return a chat with a client tool."""
    return ChatConfig(model=MODEL, tools=(ClientTool("ask", "asks", '{"type":"object"}'),))


async def ask(chat: Chat) -> ToolCall:
    """Let the model ask the client."""
    call = ToolCall(ToolCallId("call_1"), "ask", "{}", Executor.CLIENT, created_at=1)
    await chat.begin()
    await chat.commit(call)
    await chat.do(RequireAction(**chat.hold()))
    return call


async def test_guarantee_8_results_can_be_submitted_when_action_required_comes(
    edge: Edge,
) -> None:
    """A client that answers at once is never refused."""
    chat = await edge.chat(config=asking())
    follower = edge.follow(chat.id, until=pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED)
    await follower.until("caught_up")
    await ask(chat)
    event = await follower.until("action_required")
    (call,) = event.action_required.action.tool_calls
    result = tool_pb2.ToolResultInput(tool_call_id=call.tool_call_id, output_text="yes")
    request = pb.SubmitToolResultsRequest(chat_id=chat.id, results=[result])
    response = await edge.call("SubmitToolResults", request)
    assert response.chat.status == chat_pb2.CHAT_STATUS_PENDING
    await follower.to_the_end()


async def test_guarantee_9_every_mutating_response_carries_the_sequence_of_its_event(
    edge: Edge,
) -> None:
    """A client that reads up to that number reads what it wrote."""
    created = await edge.call("CreateChat", pb.CreateChatRequest(message=said("hello")))
    chat = Chat(edge, created.chat.chat_id, await edge.store.load(created.chat.chat_id))
    follower = edge.follow(chat.id, resume_from=chat_pb2.Cursor())
    await follower.until_sequence(created.sequence)
    kinds = [event.WhichOneof("event") for event in follower.events]
    assert "message_committed" in kinds
    await chat.acquire()
    await follower.until_sequence(chat.state.head_sequence)
    writes: list[tuple[Callable[[], Awaitable[Any]], str]] = [
        (
            lambda: edge.call(
                "SendMessage", pb.SendMessageRequest(chat_id=chat.id, message=said("and?"))
            ),
            "queue_changed",
        ),
        (
            lambda: edge.call("InterruptChat", pb.InterruptChatRequest(chat_id=chat.id)),
            "status_changed",
        ),
    ]
    for write, kind in writes:
        known = len(follower.events)
        response = await write()
        await follower.until_sequence(response.sequence)
        written = [event.WhichOneof("event") for event in follower.events[known:]]
        assert kind in written
    await follower.close()


async def test_pieces_of_tools_are_shown_as_they_complete(edge: Edge) -> None:
    """A batch of tools is an attempt too: started, finished, resumed in between."""
    chat = await edge.chat()
    call = ToolCall(ToolCallId("call_1"), "look", "{}", Executor.SERVER, created_at=1)
    await chat.begin()
    await chat.commit(call)
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin(AttemptKind.TOOLS)
    writer.add(0, PieceKind.TOOL_STARTED, CallHead(call.id, call.name, Executor.SERVER))
    started = await follower.until("tool_call_started")
    assert started.tool_call_started.tool_name == "look"
    follower.cut()
    result = ToolResult(call.id, call.name, "seen", Executor.SERVER, created_at=2)
    writer.add(0, PieceKind.TOOL_FINISHED, result)
    finished = await follower.until("tool_call_finished")
    assert finished.tool_call_finished.result.output_text == "seen"
    await chat.commit_results([result])
    committed = await follower.until("message_committed")
    (part,) = committed.message_committed.message.parts
    assert part.tool_result == finished.tool_call_finished.result
    await follower.close()


async def test_an_outcome_that_no_journal_holds_is_shown_with_its_commit(edge: Edge) -> None:
    """A crash before the commit would make it another one; so nobody was told."""
    chat = await edge.chat()
    call = ToolCall(ToolCallId("call_1"), "look", "{}", Executor.SERVER, created_at=1)
    await chat.begin()
    await chat.commit(call)
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    follower.kinds.clear()
    writer = await chat.begin(AttemptKind.TOOLS)
    head = CallHead(call.id, call.name, Executor.SERVER)
    writer.add(0, PieceKind.TOOL_STARTED, head)
    result = ToolResult(call.id, call.name, "lost", Executor.SERVER, created_at=2)
    writer.add_when_committed(0, PieceKind.TOOL_FINISHED, result)
    await chat.send("next")
    await follower.until("queue_changed")
    again = await chat.begin(AttemptKind.TOOLS)  # as after a crash
    again.add(0, PieceKind.TOOL_STARTED, head)
    result = ToolResult(call.id, call.name, "seen", Executor.SERVER, created_at=3)
    again.add_when_committed(0, PieceKind.TOOL_FINISHED, result)
    await chat.commit_results([result])
    await follower.until("message_committed")
    assert follower.kinds == [
        "tool_call_started",
        "queue_changed",
        "preview_reset",
        "tool_call_started",
        "tool_call_finished",
        "message_committed",
    ]
    await follower.close()


pytestmark = pytest.mark.timeout(120)
