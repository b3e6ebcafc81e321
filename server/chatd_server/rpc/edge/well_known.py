"""Durations and time stamps as protobuf defines them; a decoder accepts any pair of numbers."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chatd_server.domain.refusal import Violation

DURATION_SECONDS_MAX = 315_576_000_000
"""About 10,000 years, as google/protobuf/duration.proto says."""

TIMESTAMP_SECONDS_MIN = -62_135_596_800
TIMESTAMP_SECONDS_MAX = 253_402_300_799
"""0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, as google/protobuf/timestamp.proto says."""

NANOS = 1_000_000_000

_SPANS = (Duration.DESCRIPTOR.full_name, Timestamp.DESCRIPTOR.full_name)


def malformed(message: Message) -> Iterator[Violation]:
    """Yield every malformed duration and time stamp of a message, at any depth."""
    return _walk(message, "")


def _walk(message: Any, prefix: str) -> Iterator[Violation]:
    for field in _fields(message.DESCRIPTOR):
        place = f"{prefix}{field.name}"
        if field.is_repeated:
            for index, value in enumerate(getattr(message, field.name)):
                yield from _look(value, f"{place}[{index}]")
        elif message.HasField(field.name):
            yield from _look(getattr(message, field.name), place)


def _look(value: Any, place: str) -> Iterator[Violation]:
    if isinstance(value, Duration):
        fault = _duration_fault(value.seconds, value.nanos)
    elif isinstance(value, Timestamp):
        fault = _timestamp_fault(value.seconds, value.nanos)
    else:
        yield from _walk(value, f"{place}.")
        return
    if fault:
        yield Violation(place, fault)


def _duration_fault(seconds: int, nanos: int) -> str:
    if abs(seconds) > DURATION_SECONDS_MAX:
        return f"seconds must be from -{DURATION_SECONDS_MAX} to {DURATION_SECONDS_MAX}"
    if abs(nanos) >= NANOS:
        return f"nanos must be from -{NANOS - 1} to {NANOS - 1}; put whole seconds into seconds"
    if seconds * nanos < 0:
        return "seconds and nanos must have the same sign"
    return ""


def _timestamp_fault(seconds: int, nanos: int) -> str:
    if not TIMESTAMP_SECONDS_MIN <= seconds <= TIMESTAMP_SECONDS_MAX:
        return "seconds must be from the year 1 to the year 9999"
    if not 0 <= nanos < NANOS:
        return f"nanos must be from 0 to {NANOS - 1}"
    return ""


@cache
def _fields(descriptor: Descriptor) -> Sequence[FieldDescriptor]:
    """Return the fields that are, or contain, one of these; most requests have none."""
    return tuple(it for it in descriptor.fields if _holds(it, frozenset()))


def _holds(field: FieldDescriptor, seen: frozenset[str]) -> bool:
    kind = field.message_type
    if kind is None or kind.full_name in seen or kind.GetOptions().map_entry:
        return False
    if kind.full_name in _SPANS:
        return True
    return any(_holds(it, seen | {kind.full_name}) for it in kind.fields)
