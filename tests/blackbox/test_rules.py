"""Tests of the checks: a stream that keeps the contract passes, each violation is detected."""

from collections.abc import Sequence

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, message_pb2
from tests.blackbox.rules import Known, StreamRules, ViolationError

RUNNING = chat_pb2.CHAT_STATUS_RUNNING
WAITING = chat_pb2.CHAT_STATUS_WAITING
Response = chat_service_pb2.SubscribeResponse


def sent(event: event_pb2.ChatEvent, cursor: chat_pb2.Cursor) -> Response:
    """Return a response."""
    return Response(event=event, cursor=cursor)


def snapshot(head: int = 3, status: chat_pb2.ChatStatus.ValueType = RUNNING) -> Response:
    """Return the first response of a stream without a cursor."""
    chat = chat_pb2.Chat(status=status, head_sequence=head)
    event = event_pb2.ChatEvent(snapshot=event_pb2.Snapshot(chat=chat))
    return sent(event, chat_pb2.Cursor(sequence=head, snapshot_unfinished=True))


def messages(*attempts: str) -> Response:
    """Return messages of a snapshot."""
    found = [message_pb2.Message(position=n + 1, attempt_id=a) for n, a in enumerate(attempts)]
    event = event_pb2.ChatEvent(snapshot_messages=event_pb2.SnapshotMessages(messages=found))
    return sent(event, chat_pb2.Cursor(sequence=3, snapshot_unfinished=True))


def caught_up(sequence: int = 3) -> Response:
    """Return a caught_up response."""
    event = event_pb2.ChatEvent(caught_up=event_pb2.CaughtUp())
    return sent(event, chat_pb2.Cursor(sequence=sequence))


def piece(text: str, offset: int, attempt: str = "a", sequence: int = 3, end: int = -1) -> Response:
    """Return a piece of an answer."""
    part = event_pb2.MessagePart(attempt_id=attempt, text=text, delta_offset=offset)
    end = offset + len(text.encode()) if end < 0 else end
    cursor = chat_pb2.Cursor(sequence=sequence, attempt_id=attempt, delta_offset=end)
    return sent(event_pb2.ChatEvent(message_part=part), cursor)


def so_far(text: str) -> Response:
    """Return the answer in progress, as a stream without a cursor gets it."""
    response = piece(text, 0)
    response.cursor.snapshot_unfinished = True
    return response


def caught_up_inside(text: str) -> Response:
    """Return caught_up within an answer."""
    return sent(event_pb2.ChatEvent(caught_up=event_pb2.CaughtUp()), piece(text, 0).cursor)


def reset(sequence: int = 3) -> Response:
    """Return a preview_reset."""
    event = event_pb2.ChatEvent(preview_reset=event_pb2.PreviewReset())
    return sent(event, chat_pb2.Cursor(sequence=sequence))


def durable(sequence: int, **event: object) -> Response:
    """Return a durable event."""
    numbered = event_pb2.ChatEvent(
        sequence=sequence,
        event_time=Timestamp(seconds=1),
        **event,  # type: ignore[arg-type]
    )
    return sent(numbered, chat_pb2.Cursor(sequence=sequence))


def answer(text: str, sequence: int = 4, attempt: str = "a") -> Response:
    """Return the commit of an answer."""
    message = message_pb2.Message(
        position=9,
        attempt_id=attempt,
        parts=[message_pb2.Part(text=message_pb2.TextPart(text=text))],
    )
    committed = event_pb2.MessageCommitted(message=message, attempt_id=attempt)
    return durable(sequence, message_committed=committed)


def status(sequence: int, now: chat_pb2.ChatStatus.ValueType) -> Response:
    """Return a change of the status."""
    return durable(sequence, status_changed=event_pb2.StatusChanged(status=now))


def retry(sequence: int = 4, attempt: str = "a") -> Response:
    """Return a failed attempt."""
    return durable(sequence, retry_scheduled=event_pb2.RetryScheduled(attempt_id=attempt))


def heartbeat(head: int, sequence: int = 3) -> Response:
    """Return a heartbeat."""
    event = event_pb2.ChatEvent(heartbeat=event_pb2.Heartbeat(head_sequence=head))
    return sent(event, chat_pb2.Cursor(sequence=sequence))


def stream_end(sequence: int) -> Response:
    """Return the end, because `until` was reached."""
    end = event_pb2.StreamEnd(reason=event_pb2.STREAM_END_REASON_UNTIL_REACHED)
    return sent(event_pb2.ChatEvent(stream_end=end), chat_pb2.Cursor(sequence=sequence))


def take(responses: Sequence[Response], request: chat_service_pb2.SubscribeRequest) -> None:
    """Check a stream whose log had three events before it."""
    rules = StreamRules(request, Known(), head=3)
    for response in responses:
        rules.take(response)


UNTIL_SETTLED = chat_service_pb2.SubscribeRequest(until=chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED)
BEGIN = (snapshot(), messages("", "old"), caught_up())

GOOD = {
    "an answer": [
        *BEGIN,
        piece("Hel", 0),
        piece("lø", 3),
        answer("Hellø"),
        status(5, WAITING),
        stream_end(5),
    ],
    "the answer so far": [snapshot(), messages(""), so_far("Hel"), caught_up_inside("Hel")],
    "a retry": [*BEGIN, piece("x", 0), retry(), reset(4), piece("y", 0, "b", 4)],
    "an interrupt": [*BEGIN, piece("x", 0), status(4, chat_pb2.CHAT_STATUS_INTERRUPTING)],
}

BAD = {
    "a gap in the numbers": ("1: 5 follows 3", [*BEGIN, status(5, WAITING)]),
    "an event twice": ("1: 4 follows 4", [*BEGIN, status(4, RUNNING), status(4, RUNNING)]),
    "a live event that moves the cursor": ("moves the cursor", [*BEGIN, heartbeat(9, 4)]),
    "a cursor that goes back": ("moves the cursor", [*BEGIN, heartbeat(3, 2)]),
    "a head that is behind": ("the head is 2", [*BEGIN, heartbeat(2)]),
    "caught_up twice": ("twice", [*BEGIN, caught_up()]),
    "caught_up too early": ("3 was there", [snapshot(2), caught_up(2)]),
    "caught_up without a snapshot": ("moves the cursor", [caught_up()]),
    "two snapshots": ("one snapshot", [snapshot(), snapshot()]),
    "a lost piece": ("4: a piece begins at byte 4", [*BEGIN, piece("Hel", 0), piece("o", 4)]),
    "a piece twice": ("4: a piece begins at byte 0", [*BEGIN, piece("Hel", 0), piece("Hel", 0)]),
    "a cursor inside a character": ("move the cursor by 1", [*BEGIN, piece("ø", 0, end=1)]),
    "a piece too few": ("4: part 0", [*BEGIN, piece("Hel", 0), answer("Hello")]),
    "no piece at all": ("4: no piece", [*BEGIN, retry(), answer("Hello", 5, "b")]),
    "another text": ("4: part 0", [*BEGIN, piece("Hal", 0), answer("Hel")]),
    "a piece of a closed attempt": ("after a was", [*BEGIN, retry(), piece("y", 0, sequence=4)]),
    "a piece of a committed attempt": ("after old was", [*BEGIN, piece("x", 0, "old")]),
    "no preview_reset": ("without preview", [*BEGIN, piece("x", 0), piece("y", 0, "b")]),
    "a piece while nobody works": (
        "5: a piece came while",
        [*BEGIN, status(4, chat_pb2.CHAT_STATUS_PENDING), piece("x", 0, sequence=4)],
    ),
    "no end": ("should have ended", [*BEGIN, status(4, WAITING), status(5, RUNNING)]),
    "an end without a reason": ("as if `until`", [*BEGIN, stream_end(3)]),
    "more after the end": (
        "after stream_end",
        [*BEGIN, status(4, WAITING), stream_end(4), heartbeat(4, 4)],
    ),
    "an attempt that is committed twice": (
        "closed twice",
        [*BEGIN, piece("x", 0), retry(), answer("x", 5)],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_rules_accept_a_stream_that_keeps_the_contract(name: str) -> None:
    """What the contract allows is not a violation."""
    take(GOOD[name], UNTIL_SETTLED)


@pytest.mark.parametrize("name", BAD)
def test_rules_find_a_stream_that_breaks_the_contract(name: str) -> None:
    """Each rule can fail, and the violation names it."""
    rule, responses = BAD[name]
    with pytest.raises(ViolationError, match=rule):
        take(responses, UNTIL_SETTLED)


def test_rules_find_pieces_that_were_not_requested() -> None:
    """include_deltas = false means that no piece comes."""
    request = chat_service_pb2.SubscribeRequest(include_deltas=False)
    with pytest.raises(ViolationError, match="asked for none"):
        take([*BEGIN, piece("x", 0)], request)


def test_rules_find_a_snapshot_on_a_stream_that_resumed() -> None:
    """A cursor from after caught_up continues without a snapshot."""
    request = chat_service_pb2.SubscribeRequest(resume_from=chat_pb2.Cursor(sequence=3))
    with pytest.raises(ViolationError, match="2: a snapshot"):
        take([snapshot()], request)
