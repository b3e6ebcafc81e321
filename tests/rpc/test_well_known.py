"""Durations and time stamps of requests are those that protobuf defines."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.rpc.calls import SERVICES
from chatd_server.rpc.edge.validate import Rules
from chatd_server.rpc.edge.well_known import malformed
from tests.kit.server import Served, refused

DAY = 86_400
SECONDS_MAX = 315_576_000_000


@pytest.mark.parametrize(
    "seconds, nanos, word",
    [
        (5, 2_000_000_000, "nanos"),
        (5, -2_000_000_000, "nanos"),
        (0, 1_000_000_000, "nanos"),
        (5, -1, "sign"),
        (-5, 1, "sign"),
        (SECONDS_MAX + 1, 0, "seconds"),
        (-SECONDS_MAX - 1, 0, "seconds"),
        (2**63 - 1, 2**31 - 1, "seconds"),
        (-(2**63), -(2**31), "seconds"),
    ],
)
def test_a_duration_that_protobuf_does_not_know_is_malformed(
    seconds: int, nanos: int, word: str
) -> None:
    """The message says what is wrong with it, and the field says where."""
    request = pb.WatchChatsRequest(heartbeat_interval=Duration(seconds=seconds, nanos=nanos))
    (violation,) = malformed(request)
    assert violation.field == "heartbeat_interval"
    assert word in violation.description


@pytest.mark.parametrize(
    "seconds, nanos",
    [(0, 0), (0, 999_999_999), (0, -999_999_999), (SECONDS_MAX, 0), (-SECONDS_MAX, -1), (-1, -1)],
)
def test_every_duration_of_protobuf_is_well_formed(seconds: int, nanos: int) -> None:
    """Negative ones too: whether they make sense is for the field's own rule."""
    span = Duration(seconds=seconds, nanos=nanos)
    assert not list(malformed(pb.WatchChatsRequest(heartbeat_interval=span)))


@pytest.mark.parametrize(
    "seconds, nanos, is_fine",
    [
        (0, 0, True),
        (-62_135_596_800, 0, True),
        (253_402_300_799, 999_999_999, True),
        (-62_135_596_801, 0, False),
        (253_402_300_800, 0, False),
        (0, -1, False),
        (-5, -1, False),
        (0, 1_000_000_000, False),
    ],
)
def test_time_stamps_lie_between_the_years_1_and_9999(
    seconds: int, nanos: int, is_fine: bool
) -> None:
    """Nanos always count forwards."""
    chat = chat_pb2.Chat(create_time=Timestamp(seconds=seconds, nanos=nanos))
    found = [it.field for it in malformed(pb.GetChatResponse(chat=chat))]
    assert found == ([] if is_fine else ["chat.create_time"])


def test_places_inside_lists_are_named() -> None:
    """As people write them, and all of them."""
    event = event_pb2.ChatEvent(event_time=Timestamp(nanos=-1))
    response = pb.ListEventsResponse(events=[event_pb2.ChatEvent(), event, event])
    found = [it.field for it in malformed(response)]
    assert found == ["events[1].event_time", "events[2].event_time"]


def spans(descriptor: Descriptor, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where a request takes a duration or a time stamp."""
    for field in descriptor.fields:
        kind = field.message_type
        if kind is not None and kind.full_name in (
            "google.protobuf.Duration",
            "google.protobuf.Timestamp",
        ):
            yield (*path, field.name)
        elif kind is not None and field.name not in path:
            yield from spans(kind, (*path, field.name))


TAKEN = [
    (method.input_type, path)
    for service in SERVICES
    for method in service.methods
    for path in spans(method.input_type)
]


@pytest.mark.parametrize("descriptor, path", TAKEN, ids=[f"{d.name}.{p[-1]}" for d, p in TAKEN])
def test_wherever_a_request_takes_one_it_is_looked_at(
    descriptor: Descriptor, path: tuple[str, ...]
) -> None:
    """One violation for a field, though its own rule finds it wrong as well."""
    request: Any = GetMessageClass(descriptor)()
    span = request
    for name in path:
        span = getattr(span, name)
    span.seconds, span.nanos = 2**62, -(2**31)
    found = [it.field for it in Rules([type(request)]).violations(request)]
    assert found.count(".".join(path)) == 1


async def test_a_malformed_duration_is_refused_by_every_call_that_takes_one(
    served: Served,
) -> None:
    """2e9 nanos are not two seconds, and nothing waits for them."""
    created = await served.call("CreateChat", pb.CreateChatRequest())
    chat_id, odd = created.chat.chat_id, Duration(seconds=5, nanos=2_000_000_000)
    create = pb.CreateChatRequest(action_timeout=odd)
    events = pb.ListEventsRequest(chat_id=chat_id, wait=odd)
    follow = pb.SubscribeRequest(chat_id=chat_id, heartbeat_interval=odd)
    found = [
        await served.refused("CreateChat", create),
        await served.refused("ListEvents", events),
        await refused(lambda: served.subscribe(follow)),
    ]
    assert [it.fields for it in found] == [["action_timeout"], ["wait"], ["heartbeat_interval"]]
    assert {it.reason for it in found} == {"INVALID_FIELD"}
