"""What is converted, and what is not: vendors' blocks and ids stay inside."""

from collections.abc import Sized
from pathlib import Path
from typing import Any, get_args

import pytest

from chatd.v1 import chat_pb2, error_pb2, event_pb2, message_pb2
from chatd_server.domain.chat import (
    Action,
    ChatConfig,
    ChatState,
    ClientTool,
    OpenCall,
    Queued,
    Status,
    Turn,
    TurnOptions,
)
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolution,
    ActionResolved,
    ChatDeleted,
    ChatUpdated,
    CompactionFinished,
    CompactionOutcome,
    Cursor,
    Event,
    HistoryTruncated,
    LoggedEvent,
    MessageCommitted,
    PendingCall,
    QueueChanged,
    QueueEntry,
    RetryScheduled,
    StatusChanged,
    SubagentChanged,
)
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import (
    AttemptId,
    ChatId,
    MessageId,
    OwnerId,
    ToolCallId,
    TurnId,
    new_tool_call_id,
)
from chatd_server.domain.limits import (
    CALLS_PER_ANSWER_MAX,
    CLIENT_TOOLS_BYTES_MAX,
    CLIENT_TOOLS_MAX,
    EVENT_PAYLOAD_BYTES_MAX,
    KIB,
    QUEUE_LENGTH_MAX,
    RESPONSE_BYTES_MAX,
)
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    File,
    FileReference,
    FinishReason,
    Message,
    Native,
    Part,
    ProviderNote,
    Reasoning,
    Refusal,
    ResultFile,
    Role,
    Source,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
    Usage,
)
from chatd_server.rpc import convert

ROOT = Path(__file__).parents[2]
SECRET = "vendor-secret"
NATIVE = Native(provider="v", json=f'{{"signature":"{SECRET}"}}', model="m")
CHAT = ChatId("00000000-0000-7000-8000-000000000001")
AT = 1_767_225_600_123_456

PARTS: list[Part] = [
    Text("words", native=NATIVE),
    Reasoning("thoughts", native=NATIVE),
    ToolCall(ToolCallId("call_1"), "f", '{"a": 1 }', Executor.PROVIDER, AT, SECRET, native=NATIVE),
    ToolResult(
        ToolCallId("call_1"), "f", "[1]", Executor.PROVIDER, AT, is_json=True, native=NATIVE
    ),
    ToolResult(ToolCallId("c"), "f", "oh", Executor.SERVER, AT, error=ToolErrorKind.FAILED),
    ToolResult(
        ToolCallId("d"), "f", "", Executor.SERVER, AT, files=(ResultFile("f1", "image/png", "a"),)
    ),
    Source("https://example.org", "title", "cited"),
    File("image/png", "a.png", data=b"\x00\x01"),
    File("image/png", file_id="f1"),
    FileReference("a.py", 1, 2, "x"),
    Refusal("no"),
    ProviderNote("v", "odd_block", native=NATIVE),
]


def message(*parts: Part) -> Message:
    """Return an assistant's message."""
    return Message(
        id=MessageId("m1"),
        position=3,
        role=Role.ASSISTANT,
        parts=parts,
        turn_id=TurnId("t1"),
        created_at=AT,
        sequence=7,
        attempt_id=AttemptId("a1"),
        model="v/m",
        finish_reason=FinishReason.TOOL_CALLS,
        usage=Usage(input_tokens=0, output_tokens=5),
    )


@pytest.mark.parametrize("part", PARTS, ids=lambda it: type(it).__name__)
def test_every_kind_of_part_crosses_and_nothing_of_the_vendor_does(part: Part) -> None:
    """Each kind has its field; no bytes of it hold what belongs to the vendor."""
    wire = convert.part(part)
    assert wire.WhichOneof("kind")
    assert SECRET.encode() not in wire.SerializeToString()


def test_a_message_crosses_whole() -> None:
    """Ids, order, parts, tokens and times are those of the row; zero is not absent."""
    wire = convert.message(CHAT, message(*PARTS))
    assert SECRET.encode() not in wire.SerializeToString()
    assert (wire.position, wire.sequence, wire.model) == (3, 7, "v/m")
    assert wire.finish_reason == message_pb2.FINISH_REASON_TOOL_CALLS
    assert len(wire.parts) == len(PARTS)
    assert wire.parts[2].tool_call.arguments_json == '{"a": 1 }'
    assert wire.parts[3].tool_result.output_json == "[1]"
    assert wire.parts[4].tool_result.output_text == "oh"
    (image,) = wire.parts[5].tool_result.files
    assert (image.file_id, image.media_type, image.file_name) == ("f1", "image/png", "a")
    assert wire.usage.HasField("input_tokens")
    assert not wire.usage.HasField("cost_micros")
    assert wire.create_time.ToMicroseconds() == AT


def test_a_chat_crosses_with_its_error_and_without_its_owner() -> None:
    """What its owner may see; never its owner or its worker."""
    state = ChatState(
        id=CHAT,
        owner_id=OwnerId("owner-name"),
        root_id=CHAT,
        created_at=AT,
        updated_at=AT,
        status=Status.REQUIRES_ACTION,
        turn=Turn(id=TurnId("t1"), first_position=1),
        calls=(
            OpenCall(ToolCallId("c1"), "mine", Executor.CLIENT, AT, "{}"),
            OpenCall(ToolCallId("c2"), "ours", Executor.SERVER, AT, "{}"),
        ),
        action=Action(TurnId("t1"), AT, 9),
        queue=(Queued(MessageId("q"), (Text("x" * 300),), AT),),
        last_error=ChatError(ErrorKind.TIMEOUT, "slow", retry_after_seconds=0.0, http_status=504),
        config=ChatConfig(
            title="t", labels={"a": "b"}, tools=(ClientTool("mine"),), action_timeout_seconds=1.5
        ),
    )
    wire = convert.chat(state)
    assert b"owner-name" not in wire.SerializeToString()
    assert wire.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    assert wire.queued_message_count == 1
    assert wire.action_timeout.ToMilliseconds() == 1500
    assert wire.last_error.HasField("retry_after")
    assert wire.etag == "v1"
    snapshot = convert.snapshot(state)
    assert [it.tool_call_id for it in snapshot.pending_action.tool_calls] == ["c1"]
    assert len(snapshot.queue[0].preview) == 200


ERROR = ChatError(ErrorKind.RATE_LIMIT, "later", "detail", "v", retryable=True)
EVENTS: list[Event] = [
    MessageCommitted(3, AttemptId("a1")),
    StatusChanged(Status.ERROR, TurnId("t1"), None, ERROR),
    QueueChanged((QueueEntry(MessageId("q"), "hi"),)),
    ActionRequired(TurnId("t1"), (PendingCall(ToolCallId("c"), "f", "{}", AT),), AT),
    ActionResolved(TurnId("t1"), ActionResolution.EXPIRED),
    RetryScheduled(AttemptId("a1"), 2, 1.5, AT, ERROR, TurnId("t1")),
    HistoryTruncated(4),
    CompactionFinished(
        CompactionSource.AUTO,
        4,
        0,
        None,
        CompactionOutcome.FAILED,
        AttemptId("a1"),
        "in short",
        0.0,
        70.0,
        100,
        ERROR,
    ),
    ChatUpdated(title="", labels={}, tools=("f",)),
    SubagentChanged(CHAT, Status.WAITING, "child", ToolCallId("c")),
    ChatDeleted(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda it: type(it).__name__)
def test_every_durable_event_crosses(event: Event) -> None:
    """Each has its field of the oneof, the sequence and the time of the log."""
    its_message = message() if isinstance(event, MessageCommitted) else None
    wire = convert.event(CHAT, LoggedEvent(9, AT, event, its_message))
    assert wire.sequence == 9
    assert wire.event_time.ToMicroseconds() == AT
    # The kinds of the log and the names of the oneof are the same words.
    assert wire.WhichOneof("event") == event.__struct_config__.tag


def test_every_durable_kind_of_the_contract_is_an_event_of_the_domain() -> None:
    """Numbers 10 to 29 of the oneof are durable."""
    durable = {
        field.name
        for field in event_pb2.ChatEvent.DESCRIPTOR.oneofs_by_name["event"].fields
        if field.number < 30
    }
    assert {type(it) for it in EVENTS} == set(get_args(Event))
    assert durable == {it.__struct_config__.tag for it in EVENTS}


def test_the_page_of_events_names_every_durable_kind() -> None:
    """Who writes a client reads there what is numbered."""
    page = (ROOT / "docs/concepts/events-and-resume.md").read_text(encoding="utf-8")
    listed = page.partition("**Durable** events")[2].partition("**Live** events")[0]
    assert [it for it in EVENTS if f"`{it.__struct_config__.tag}`" not in listed] == []


def test_absent_fields_of_an_update_stay_absent() -> None:
    """An empty title is a new value; a model that did not change is not there."""
    wire = convert.event(CHAT, LoggedEvent(1, AT, ChatUpdated(title="", labels={}))).chat_updated
    assert wire.HasField("title")
    assert wire.HasField("labels")
    assert not wire.HasField("model")


def test_a_snapshot_of_the_largest_chat_is_one_response() -> None:
    """All that a chat may be configured with, a full queue and long calls fit below the limit."""
    schema = "{" + " " * (CLIENT_TOOLS_BYTES_MAX // CLIENT_TOOLS_MAX - 100) + "}"
    tools = tuple(ClientTool(f"tool_{n}", "", schema) for n in range(CLIENT_TOOLS_MAX))
    labels = {f"{n:063}": "x" * 256 for n in range(64)}
    config = ChatConfig("t" * 200, "m" * 256, "p" * 256 * KIB, labels, tools)
    queue = tuple(Queued(MessageId(str(n)), (Text("𝄞" * 300),), 1) for n in range(QUEUE_LENGTH_MAX))
    calls = tuple(
        OpenCall(new_tool_call_id(), "n" * 64, Executor.CLIENT, AT, "x" * (16 + n % 2 * 6000))
        for n in range(CALLS_PER_ANSWER_MAX)
    )
    largest = ChatState(
        id=ChatId("c"),
        owner_id=OwnerId("o"),
        root_id=ChatId("c"),
        created_at=1,
        updated_at=1,
        status=Status.REQUIRES_ACTION,
        turn=Turn(TurnId("t"), 1),
        calls=calls,
        action=Action(TurnId("t"), 5, 3),
        queue=queue,
        config=config,
    )
    shown = convert.snapshot(largest)
    assert shown.ByteSize() < RESPONSE_BYTES_MAX
    assert [call.tool_call_id for call in shown.pending_action.tool_calls] == [c.id for c in calls]
    arguments = [call.arguments_json for call in shown.pending_action.tool_calls]
    assert {len(it) for it in arguments} == {0, 16, 6016}
    assert sum(map(len, arguments)) <= EVENT_PAYLOAD_BYTES_MAX


def test_what_a_chat_still_waits_for_has_no_call_that_is_answered() -> None:
    """A snapshot shows the step, a list of actions shows the work that is left, arguments whole."""
    kept = ToolResult(ToolCallId("c1"), "mine", "kept", Executor.CLIENT, AT)
    calls = (
        OpenCall(ToolCallId("c1"), "mine", Executor.CLIENT, AT, "{}", outcome=kept),
        OpenCall(ToolCallId("c2"), "mine", Executor.CLIENT, AT, "x" * 20_000),
    )
    owner = OwnerId("o")
    state = ChatState(CHAT, owner, CHAT, AT, AT, calls=calls, action=Action(TurnId("t1"), AT, 9))
    shown, wanted = convert.snapshot(state).pending_action, convert.wanted_action(state)
    assert [it.answered for it in shown.tool_calls] == [True, False]
    assert wanted is not None
    assert [(it.tool_call_id, it.answered) for it in wanted.tool_calls] == [("c2", False)]
    assert wanted.tool_calls[0].arguments_json == "x" * 20_000


def test_options_cross_in_both_ways_of_absent() -> None:
    """What the client left out stays unset, for the chat and the server to fill."""
    assert convert.turn_options_from(chat_pb2.TurnOptions()) == TurnOptions()
    full = chat_pb2.TurnOptions(model="a/b", max_steps=1, temperature=0.0, max_output_tokens=9)
    given = convert.turn_options_from(full)
    assert given == TurnOptions(model="a/b", max_steps=1, temperature=0.0, max_output_tokens=9)


def test_a_cursor_comes_back_as_it_went() -> None:
    """Clients store it and send it back years later."""
    cursor = Cursor(5, AttemptId("a"), 77, snapshot_unfinished=True)
    assert convert.cursor_from(convert.cursor(cursor)) == cursor


def test_every_number_of_every_enum_has_a_word_of_the_domain() -> None:
    """A value that exists in the contract alone could never be sent."""
    pairs: list[tuple[Any, Sized]] = [
        (chat_pb2.ChatStatus, convert.chats._STATUS),
        (chat_pb2.StopReason, convert.chats._STOP_REASON),
        (chat_pb2.ReasoningEffort, convert.requests._EFFORT),
        (chat_pb2.BusyBehavior, convert.requests._BUSY),
        (message_pb2.Role, convert.messages._ROLE),
        (message_pb2.Visibility, convert.messages._VISIBILITY),
        (message_pb2.FinishReason, convert.messages._FINISH),
        (message_pb2.ToolExecutor, convert.messages._EXECUTOR),
        (message_pb2.ToolErrorKind, convert.messages._TOOL_ERROR),
        (error_pb2.ErrorKind, convert.errors._ERROR_KIND),
        (event_pb2.ActionResolution, convert.events._RESOLUTION),
        (event_pb2.CompactionSource, convert.events._SOURCE),
        (event_pb2.CompactionOutcome, convert.events._OUTCOME),
    ]
    for enum, table in pairs:
        # Those of requests are keyed by number, those of responses by word; the other side is it.
        assert len(table) == len(enum.values()) - 1, enum.DESCRIPTOR.name


def test_spans_are_exact_to_the_microsecond() -> None:
    """Whole microseconds go through as they are."""
    for seconds in (0.0, 0.000001, 1.999999, 604800.0):
        assert convert.seconds_of(convert.duration(seconds)) == pytest.approx(seconds, abs=1e-9)
