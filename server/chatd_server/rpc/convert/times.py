"""Moments and spans as the contract writes them."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chatd_server.domain.ids import MICROSECONDS, Instant


def timestamp(at: Instant) -> Timestamp:
    seconds, micros = divmod(at, MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def duration(seconds: float) -> Duration:
    """Return a span, to the microsecond; not for negative spans."""
    whole, micros = divmod(round(seconds * MICROSECONDS), MICROSECONDS)
    return Duration(seconds=whole, nanos=micros * 1000)


def seconds_of(span: Duration) -> float:
    return span.seconds + span.nanos / 1e9
