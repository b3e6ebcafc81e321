"""Stored values come back as they were, and from older and newer hands as far as possible."""

import json
from typing import get_args

import msgspec
import pytest

from chatd_server.domain.chat import ChatConfig, Queued, Status, StopReason
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolution,
    ActionResolved,
    ChatDeleted,
    ChatUpdated,
    CompactionFinished,
    CompactionOutcome,
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
from chatd_server.domain.ids import AttemptId, ChatId, MessageId, ToolCallId, TurnId
from chatd_server.domain.message import (
    CONTENT_VERSION,
    CompactionSource,
    Executor,
    File,
    FileReference,
    FinishReason,
    Message,
    Native,
    ProviderNote,
    Reasoning,
    Refusal,
    Role,
    Source,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
    Usage,
)
from chatd_server.store.shared import codec, rows

WEIRD = 'NUL \x00, quotes "\\", controls \x1e\x1f, 👩\u200d💻, \u2028'
MESSAGE = Message(
    id=MessageId("m1"),
    position=3,
    role=Role.ASSISTANT,
    parts=(
        Text(WEIRD, Native("anthropic", '{"a": 1}', "m")),
        Reasoning("", Native("anthropic", '{"signature": "x"}')),
        ToolCall(ToolCallId("c1"), "ls", '{"broken', Executor.CLIENT, 5, "toolu_1"),
        ToolResult(
            ToolCallId("c1"),
            "ls",
            WEIRD,
            Executor.CLIENT,
            6,
            is_json=False,
            error=ToolErrorKind.OUTCOME_UNKNOWN,
            truncated=True,
        ),
        Source("https://example.com/?q=1", "a title", "words"),
        File("image/png", "a.png", b"\x00\xff\x89PNG"),
        FileReference("a.py", 1, 2, WEIRD),
        Refusal("no"),
        ProviderNote("anthropic", "new_block", Native("anthropic", "{}")),
    ),
    turn_id=TurnId("t1"),
    created_at=1,
    sequence=7,
    attempt_id=AttemptId("a1"),
    model="sandbox/echo",
    finish_reason=FinishReason.TOOL_CALLS,
    usage=Usage(input_tokens=0, output_tokens=None, cost_micros=12),
)
ERROR = ChatError(ErrorKind.OVERLOADED, "busy", detail=WEIRD, retryable=True)
EVENTS: tuple[Event, ...] = (
    StatusChanged(Status.ERROR, TurnId("t"), StopReason.ERROR, ERROR),
    QueueChanged((QueueEntry(MessageId("m"), WEIRD),)),
    ActionRequired(TurnId("t"), (PendingCall(ToolCallId("c"), "ls", "{}", 1),), 9),
    ActionResolved(TurnId("t"), ActionResolution.EXPIRED),
    RetryScheduled(AttemptId("a"), 2, 1.5, 77, ERROR, TurnId("t")),
    HistoryTruncated(4),
    CompactionFinished(
        CompactionSource.MANUAL,
        5,
        100,
        None,
        CompactionOutcome.FAILED,
        AttemptId("a"),
        WEIRD,
        12.5,
        70.0,
        800,
        ERROR,
    ),
    ChatUpdated(title="", labels={}),
    SubagentChanged(ChatId("x"), Status.WAITING, "child"),
    ChatDeleted(),
)


def test_a_message_with_every_kind_of_part_comes_back_as_it_was() -> None:
    """Nothing of a message is lost on the way through the database, NUL and natives included."""
    assert codec.decode_message(CONTENT_VERSION, codec.encode(MESSAGE)) == MESSAGE


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Each kind of event survives the row that stores it."""
    ((*row, payload),) = rows.EVENT.rows([LoggedEvent(9, 1, event)])

    read = (*row, CONTENT_VERSION, payload, None, None)
    assert rows.event_of(read) == LoggedEvent(9, 1, event)


def test_the_event_of_a_message_has_no_payload_and_comes_back_with_its_message() -> None:
    """A message is stored once: its event refers to the row and gets the attempt from there."""
    logged = LoggedEvent(7, 1, MessageCommitted(3, AttemptId("a1")), MESSAGE)

    ((*row, payload),) = rows.EVENT.rows([logged])

    assert payload is None
    ((*_, content),) = rows.MESSAGE.rows([MESSAGE])
    read = (*row, CONTENT_VERSION, payload, CONTENT_VERSION, content)
    assert rows.event_of(read) == logged


def test_every_kind_of_event_has_a_number_of_its_own() -> None:
    """The numbers are stored, so the list covers the closed union and repeats none."""
    kinds = set(get_args(Event))

    assert set(codec.EVENT_KINDS) == kinds
    assert {type(it) for it in EVENTS} == kinds - {MessageCommitted}
    assert len(set(codec.EVENT_KINDS.values())) == len(kinds)


def test_a_field_of_a_later_version_is_left_out() -> None:
    """A value with fields that this version does not know is read all the same."""
    stored = json.loads(codec.encode(MESSAGE))
    stored["invented_later"] = {"deep": [1, 2]}
    stored["parts"][0]["also_new"] = True

    assert codec.decode_message(CONTENT_VERSION, json.dumps(stored).encode()) == MESSAGE


def test_content_of_a_later_version_is_refused_and_names_the_remedy() -> None:
    """What a newer chatd wrote in a newer form is not guessed at."""
    with pytest.raises(codec.ContentTooNew, match="update chatd"):
        codec.decode_message(CONTENT_VERSION + 1, codec.encode(MESSAGE))


def test_absent_fields_take_their_defaults() -> None:
    """What an older version did not write yet is read as its default."""
    assert codec.decode_config(CONTENT_VERSION, b"{}") == ChatConfig()
    assert codec.decode_hot_state(CONTENT_VERSION, b"{}") == codec.HotState()


def test_a_lone_surrogate_is_not_encoded() -> None:
    """Text that cannot travel fails here, before anything is written."""
    with pytest.raises(UnicodeEncodeError):
        codec.encode(msgspec.structs.replace(MESSAGE, parts=(Text("\ud800"),)))


def test_a_filter_finds_a_label_and_no_part_of_another() -> None:
    """Labels are searched as bytes: neither a part of a value nor a clever value matches."""
    labels = codec.encode_labels({"team": "red\x1e[", "x": '","', "a[": ","})

    assert codec.encode_label("team", "red\x1e[") in labels
    assert codec.encode_label("x", '","') in labels
    assert codec.encode_label("team", "red") not in labels
    assert codec.encode_label(",", "],[") not in labels


def test_keys_of_commands_differ_by_chat_and_kind() -> None:
    """The same command id in another chat, or as a request id, is another command."""
    keys = {
        codec.command_key(ChatId("a"), "b"),
        codec.command_key(ChatId("a2"), "b"),
        codec.request_key("a\x1fb"),
        codec.request_key("b"),
    }

    assert len(keys) == 4
    assert {len(key) for key in keys} == {codec.KEY_BYTES}


def test_the_order_of_an_empty_queue_is_null() -> None:
    """A chat without a queue stores nothing for it."""
    queue = (Queued(MessageId("b"), (), 0), Queued(MessageId("a"), (), 0))

    assert codec.encode_order(()) is None
    assert codec.decode_order(None) == []
    assert codec.decode_order(codec.encode_order(queue)) == ["b", "a"]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_part_weighs_what_it_takes_in_a_page(count: int) -> None:
    """Whatever its words are: words that look like parts weigh nothing more."""

    def weight(text: str) -> int:
        parts = tuple(Text(text) for _ in range(count))
        return codec.page_weight(codec.encode(msgspec.structs.replace(MESSAGE, parts=parts)))

    assert weight("x") - codec.page_weight(
        codec.encode(msgspec.structs.replace(MESSAGE, parts=()))
    ) >= (count * codec.PART_WEIGHT)
    odd = '{"kind":"text"}'
    assert weight(odd) - weight("x") == count * (len(json.dumps(odd)) - len(json.dumps("x")))
