"""The view of a chat: what the events of a stream add up to."""

from typing import Any

import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, message_pb2
from chatd_client import ChatView
from tests.client.scripted import delta


def view_of(*events: event_pb2.ChatEvent) -> ChatView:
    """Return the view after these events."""
    view = ChatView()
    for event in events:
        view.apply(chat_service_pb2.SubscribeResponse(event=event))
    return view


def status(name: str, **more: Any) -> event_pb2.ChatEvent:
    """Return a change of the status."""
    value = chat_pb2.ChatStatus.Value(f"CHAT_STATUS_{name}")
    return event_pb2.ChatEvent(
        status_changed=event_pb2.StatusChanged(status=value, turn_id="t1", **more)
    )


def test_a_kind_of_event_is_folded_or_is_known_to_change_nothing() -> None:
    """A new kind needs a decision, and a handler with a wrong name would never be called."""
    kinds = {it.name for it in event_pb2.ChatEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    folds = {it.removeprefix("_on_") for it in vars(ChatView) if it.startswith("_on_")}
    without = {"subagent_changed", "chat_deleted", "heartbeat", "stream_end"}
    assert kinds == (folds - {"other"}) | without


def test_a_summary_is_no_answer_and_no_message_for_people() -> None:
    """While it is written it is not the answer in progress; afterwards only the model has it."""
    started = event_pb2.CompactionStarted(attempt_id="a1", delta_offset=0)
    piece = event_pb2.MessagePart(attempt_id="a1", part_index=0, delta_offset=20, text="In short")
    view = view_of(
        status("RUNNING"),
        event_pb2.ChatEvent(compaction_started=started),
        event_pb2.ChatEvent(message_part=piece),
    )
    assert (view.is_compacting, view.live_text) == (True, "")
    assert ChatView.load(view.dump()).is_compacting
    summary = message_pb2.Message(
        role=message_pb2.ROLE_USER, visibility=message_pb2.VISIBILITY_MODEL, attempt_id="a1"
    )
    committed = event_pb2.MessageCommitted(message=summary, attempt_id="a1")
    finished = event_pb2.CompactionFinished(
        outcome=event_pb2.COMPACTION_OUTCOME_DONE, tokens_after=7
    )
    for event in (
        event_pb2.ChatEvent(message_committed=committed),
        event_pb2.ChatEvent(compaction_finished=finished),
    ):
        view.apply(chat_service_pb2.SubscribeResponse(event=event))
    assert (view.is_compacting, view.live, view.messages) == (False, {}, [])


def test_a_compaction_that_failed_leaves_nothing_live() -> None:
    """Its event closes the attempt, where nothing is committed."""
    started = event_pb2.CompactionStarted(attempt_id="a1", delta_offset=0)
    failed = event_pb2.CompactionFinished(
        outcome=event_pb2.COMPACTION_OUTCOME_FAILED, attempt_id="a1"
    )
    view = view_of(
        event_pb2.ChatEvent(compaction_started=started),
        event_pb2.ChatEvent(compaction_finished=failed),
    )
    assert not view.is_compacting


def test_a_turn_is_open_until_the_event_that_says_why_it_ended() -> None:
    """As in GetChat, `turn_id` is empty when no turn is open."""
    running = status("RUNNING")
    assert view_of(running).chat.turn_id == "t1"
    ended = status("WAITING", stop_reason=chat_pb2.STOP_REASON_END_TURN)
    assert not view_of(running, ended).chat.turn_id


def test_the_length_of_the_queue_follows_the_queue() -> None:
    """The count in the chat always equals the number of entries."""
    entries = [event_pb2.QueueEntry(message_id="m1"), event_pb2.QueueEntry(message_id="m2")]
    changed = event_pb2.ChatEvent(queue_changed=event_pb2.QueueChanged(entries=entries))
    view = view_of(changed)
    assert (len(view.queue), view.chat.queued_message_count) == (2, 2)


def test_new_labels_take_the_place_of_the_old_ones() -> None:
    """The event carries all of them; an event without labels changes none."""

    def labelled(**labels: str) -> event_pb2.ChatEvent:
        entries = event_pb2.Labels(entries=labels)
        return event_pb2.ChatEvent(chat_updated=event_pb2.ChatUpdated(labels=entries))

    titled = event_pb2.ChatEvent(chat_updated=event_pb2.ChatUpdated(title="new"))
    view = view_of(labelled(a="1", b="2"), labelled(b="3"), titled)
    assert dict(view.chat.labels) == {"b": "3"}
    assert view.chat.title == "new"


def test_a_new_snapshot_forgets_the_retry_of_the_old_one() -> None:
    """Everything that is not in the snapshot is gone."""
    retry = event_pb2.ChatEvent(retry_scheduled=event_pb2.RetryScheduled(attempt_number=1))
    snapshot = event_pb2.ChatEvent(snapshot=event_pb2.Snapshot())
    assert view_of(retry).retry is not None
    assert view_of(retry, snapshot).retry is None


def test_the_text_in_progress_goes_when_it_is_void() -> None:
    """A program shows the current answer, without its reasoning."""

    def piece(attempt: str, index: int, **words: Any) -> event_pb2.ChatEvent:
        part = event_pb2.MessagePart(attempt_id=attempt, part_index=index, **words)
        return event_pb2.ChatEvent(message_part=part)

    begun = [piece("a", 0, reasoning="Hm"), piece("a", 1, text="Hel"), piece("a", 1, text="lo")]
    assert view_of(*begun).live_text == "Hello"
    reset = event_pb2.ChatEvent(preview_reset=event_pb2.PreviewReset(attempt_id="a"))
    assert not view_of(*begun, reset).live_text
    assert view_of(*begun, reset, piece("b", 0, text="Hi")).live_text == "Hi"


PIECES = {
    "again": ([delta("Hell\u00f6", at=0)], "Hell\u00f6"),
    "again, in parts": ([delta("Hel", at=0), delta("l\u00f6", at=3)], "Hell\u00f6"),
    "part of it": ([delta("l\u00f6 there", at=3)], "Hell\u00f6 there"),
    "all and more": ([delta("Hell\u00f6 there", at=0)], "Hell\u00f6 there"),
    "what follows": ([delta(" there", at=6)], "Hell\u00f6 there"),
    "another attempt": ([delta("Hi", at=0, attempt="b")], "Hi"),
}


@pytest.mark.parametrize(("pieces", "text"), PIECES.values(), ids=PIECES.keys())
def test_a_piece_adds_what_is_new(
    pieces: list[chat_service_pb2.SubscribeResponse], text: str
) -> None:
    """Its offset counts bytes of UTF-8, however the pieces were merged."""
    view = ChatView()
    view.apply(delta("Hell\u00f6", at=0))
    for piece in pieces:
        view.apply(piece)
    assert view.live_text == text


def test_a_reset_voids_its_own_attempt() -> None:
    """A repeated one does not change the newer attempt."""
    view = ChatView()
    view.apply(delta("Hello", at=0, attempt="b"))
    late = event_pb2.ChatEvent(preview_reset=event_pb2.PreviewReset(attempt_id="a"))
    view.apply(chat_service_pb2.SubscribeResponse(event=late, cursor=chat_pb2.Cursor(sequence=1)))
    assert view.live_text == "Hello"
    assert view.cursor == chat_pb2.Cursor(sequence=1, attempt_id="b", delta_offset=5)


@pytest.mark.parametrize(
    "event",
    [
        event_pb2.ChatEvent(preview_reset=event_pb2.PreviewReset()),
        event_pb2.ChatEvent(heartbeat=event_pb2.Heartbeat()),
        event_pb2.ChatEvent(sequence=1, queue_changed=event_pb2.QueueChanged()),
    ],
    ids=["preview_reset", "heartbeat", "durable"],
)
@pytest.mark.parametrize("held", [delta("Hello", at=0), None], ids=["in an answer", "between"])
def test_what_comes_from_before_the_cursor_changes_nothing(
    event: event_pb2.ChatEvent, held: chat_service_pb2.SubscribeResponse | None
) -> None:
    """A stream that repeats an old turn is behind the view."""
    view = ChatView()
    queued = event_pb2.QueueChanged(entries=[event_pb2.QueueEntry(message_id="m")])
    view.apply(
        chat_service_pb2.SubscribeResponse(
            event=event_pb2.ChatEvent(sequence=9, queue_changed=queued),
            cursor=chat_pb2.Cursor(sequence=9),
        )
    )
    if held is not None:
        piece = chat_service_pb2.SubscribeResponse()
        piece.CopyFrom(held)
        piece.cursor.sequence = 9
        view.apply(piece)
    before = ChatView.load(view.dump())
    view.apply(chat_service_pb2.SubscribeResponse(event=event, cursor=chat_pb2.Cursor(sequence=1)))
    assert view == before


def test_an_answer_of_another_attempt_ends_the_one_in_progress() -> None:
    """The server died in the first attempt, and this stream has shown neither attempt."""
    view = ChatView()
    view.apply(delta("Hello", at=0))
    message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, attempt_id="b")
    view.apply(
        chat_service_pb2.SubscribeResponse(
            event=event_pb2.ChatEvent(
                sequence=2,
                message_committed=event_pb2.MessageCommitted(message=message, attempt_id="b"),
            ),
            cursor=chat_pb2.Cursor(sequence=2),
        )
    )
    assert (view.live_text, view.cursor) == ("", chat_pb2.Cursor(sequence=2))


def test_the_head_of_a_call_is_not_counted_as_its_arguments() -> None:
    """The offset of a piece counts the id and the name too; they come once."""

    def call(arguments: str, begin: int, end: int) -> chat_service_pb2.SubscribeResponse:
        piece = event_pb2.ToolCallPiece(
            tool_call_id="1", tool_name="work", arguments_json=arguments
        )
        part = event_pb2.MessagePart(attempt_id="a", delta_offset=begin, tool_call=piece)
        return chat_service_pb2.SubscribeResponse(
            event=event_pb2.ChatEvent(message_part=part),
            cursor=chat_pb2.Cursor(sequence=1, attempt_id="a", delta_offset=end),
        )

    view = ChatView()
    view.apply(call('{"n"', 0, 24))
    view.apply(call('{"n":1', 0, 26))
    view.apply(call(":1}", 24, 27))
    assert view.live[0].text == '{"n":1}'


def test_pieces_of_an_answer_that_is_committed_are_ignored() -> None:
    """The message is complete."""
    message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, attempt_id="a")
    committed = event_pb2.MessageCommitted(message=message, attempt_id="a")
    view = ChatView()
    view.apply(delta("Hello", at=0))
    view.apply(
        chat_service_pb2.SubscribeResponse(
            event=event_pb2.ChatEvent(sequence=2, message_committed=committed),
            cursor=chat_pb2.Cursor(sequence=2),
        )
    )
    late = delta("Hello", at=0)
    late.cursor.sequence = 2
    view.apply(late)
    assert (view.live, view.cursor) == ({}, chat_pb2.Cursor(sequence=2))


def test_a_snapshot_replaces_what_the_view_has() -> None:
    """Also from a shorter log: the server may have been restored from a backup."""
    view = ChatView()
    view.apply(
        chat_service_pb2.SubscribeResponse(
            event=event_pb2.ChatEvent(sequence=9, message_committed=event_pb2.MessageCommitted()),
            cursor=chat_pb2.Cursor(sequence=9),
        )
    )
    begun = chat_pb2.Cursor(sequence=3, snapshot_unfinished=True)
    snapshot = event_pb2.ChatEvent(snapshot=event_pb2.Snapshot())
    view.apply(chat_service_pb2.SubscribeResponse(event=snapshot, cursor=begun))
    assert (view.messages, view.cursor) == ([], begun)


def test_an_attempt_is_over_when_the_chat_does_not_work() -> None:
    """A stream that does not know of its pieces sends no preview_reset for them."""
    view = ChatView()
    view.apply(delta("Hello", at=0))
    ended = chat_service_pb2.SubscribeResponse(
        event=status("WAITING"), cursor=chat_pb2.Cursor(sequence=2)
    )
    ended.event.sequence = 2
    view.apply(ended)
    assert (view.live_text, view.cursor) == ("", chat_pb2.Cursor(sequence=2))


def committed(
    sequence: int, turn_id: str, role: message_pb2.Role.ValueType, **part: Any
) -> event_pb2.ChatEvent:
    """Return a message of one part."""
    message = message_pb2.Message(
        turn_id=turn_id, role=role, parts=[message_pb2.Part(**part)] if part else []
    )
    return event_pb2.ChatEvent(
        sequence=sequence, message_committed=event_pb2.MessageCommitted(message=message)
    )


USER, ASSISTANT = message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT
ASKED = committed(1, "t1", USER, text=message_pb2.TextPart(text="Hello?"))
ANSWERED = committed(2, "t1", ASSISTANT, text=message_pb2.TextPart(text="Hello."))
ASKED_AGAIN = committed(3, "t2", USER, text=message_pb2.TextPart(text="And now?"))
REFUSED = committed(4, "t2", ASSISTANT, refusal=message_pb2.RefusalPart(text="No."))
CALLED = committed(4, "t2", ASSISTANT)

ANSWERS = {
    "nothing yet": ([], "", ""),
    "a question": ([ASKED], "", ""),
    "an answer": ([ASKED, ANSWERED], "Hello.", "Hello."),
    "a turn without an answer": ([ASKED, ANSWERED, ASKED_AGAIN], "Hello.", ""),
    "a refusal": ([ASKED, ANSWERED, ASKED_AGAIN, REFUSED], "No.", "No."),
    "a call without words": ([ASKED, ANSWERED, ASKED_AGAIN, CALLED], "", ""),
}


@pytest.mark.parametrize(("events", "newest", "of_turn"), ANSWERS.values(), ids=ANSWERS.keys())
def test_the_answer_of_a_turn_is_of_no_other_turn(
    events: list[event_pb2.ChatEvent], newest: str, of_turn: str
) -> None:
    """A bot that replies with the newest answer of the chat would repeat an old one."""
    view = view_of(*events)
    assert (view.answer, view.turn_answer) == (newest, of_turn)


def test_a_turn_that_has_begun_has_no_answer_yet() -> None:
    """Its status may come before its message."""
    begun = event_pb2.ChatEvent(
        sequence=3,
        status_changed=event_pb2.StatusChanged(status=chat_pb2.CHAT_STATUS_RUNNING, turn_id="t2"),
    )
    assert view_of(ASKED, ANSWERED, begun).turn_answer == ""
