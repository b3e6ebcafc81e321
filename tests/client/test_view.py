"""The view of a chat: what the events of a stream add up to."""

from typing import Any

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2
from chatd_client import ChatView


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


def test_a_turn_is_open_until_the_event_that_says_why_it_ended() -> None:
    """As GetChat says it: `turn_id` is empty when no turn is open."""
    running = status("RUNNING")
    assert view_of(running).chat.turn_id == "t1"
    ended = status("WAITING", stop_reason=chat_pb2.STOP_REASON_END_TURN)
    assert not view_of(running, ended).chat.turn_id


def test_the_length_of_the_queue_follows_the_queue() -> None:
    """The count on the chat and the entries are one fact."""
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
    """What is not in the snapshot is not so any more."""
    retry = event_pb2.ChatEvent(retry_scheduled=event_pb2.RetryScheduled(attempt_number=1))
    snapshot = event_pb2.ChatEvent(snapshot=event_pb2.Snapshot())
    assert view_of(retry).retry is not None
    assert view_of(retry, snapshot).retry is None


def test_the_text_in_progress_goes_when_it_is_void() -> None:
    """What a program shows in place is the answer as it stands, without its reasoning."""

    def piece(attempt: str, index: int, **words: Any) -> event_pb2.ChatEvent:
        part = event_pb2.MessagePart(attempt_id=attempt, part_index=index, **words)
        return event_pb2.ChatEvent(message_part=part)

    begun = [piece("a", 0, reasoning="Hm"), piece("a", 1, text="Hel"), piece("a", 1, text="lo")]
    assert view_of(*begun).live_text == "Hello"
    reset = event_pb2.ChatEvent(preview_reset=event_pb2.PreviewReset(attempt_id="a"))
    assert not view_of(*begun, reset).live_text
    assert view_of(*begun, reset, piece("b", 0, text="Hi")).live_text == "Hi"
