"""What subscribers are sent, and for how long."""

from typing import Annotated

import msgspec
from msgspec import Meta


class StreamsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What subscribers are sent, and for how long."""

    stream_heartbeat_seconds: Annotated[
        float, Meta(description="Pause between heartbeats of a silent stream.", ge=1, le=300)
    ] = 15.0
    event_retention_days: Annotated[
        float,
        Meta(
            description="How long events are kept; 0: for ever. Older ones are dropped at the "
            "start and every ten minutes.",
            ge=0,
            le=36_500,
        ),
    ] = 0.0
