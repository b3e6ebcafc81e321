"""Intervals and limits of streams."""

import secrets

import msgspec

from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.limits import STREAMS_PER_OWNER_MAX, SUBSCRIBERS_PER_CHAT_MAX


class HubSettings(msgspec.Struct, frozen=True):
    """Intervals and limits of streams."""

    #: Interval between heartbeats unless the subscriber asks for another.
    heartbeat_seconds: float = 15.0
    #: Read the log with each heartbeat, in case a hint of another process was lost. Not needed
    #: where this process makes all commits.
    reads_at_heartbeat: bool = True
    #: A stream older than this ends with MAX_DURATION, so that load moves to new replicas.
    stream_seconds_max: float = 3600.0
    #: Fraction of that time that is random, so that not all streams end at once.
    stream_jitter: float = 0.1
    subscribers_per_chat_max: int = SUBSCRIBERS_PER_CHAT_MAX
    streams_per_owner_max: int = STREAMS_PER_OWNER_MAX
    #: How long events are kept; 0: for ever.
    event_retention_seconds: float = 0.0

    def lifetime(self) -> Instant:
        """Return the lifetime of a new stream, in microseconds."""
        whole = round(self.stream_seconds_max * MICROSECONDS)
        spread = round(whole * self.stream_jitter)
        return whole - (secrets.randbelow(spread) if spread else 0)
