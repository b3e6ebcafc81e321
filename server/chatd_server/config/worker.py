"""How turns are taken and kept."""

from typing import Annotated

import msgspec
from msgspec import Meta


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How turns are taken and kept."""

    default_model: Annotated[
        str,
        Meta(description='"provider/model" of chats that name none.', pattern=r"^[^/\s]+/\S+$"),
    ] = "sandbox/echo"
    runs_max: Annotated[
        int, Meta(description="Chats that this server works on at once.", ge=1, le=100_000)
    ] = 1000
    lease_seconds: Annotated[
        float,
        Meta(
            description="How long a chat stays with a worker that went silent; another one "
            "takes it over at most poll_seconds later.",
            ge=1,
            le=3600,
        ),
    ] = 30.0
    lease_heartbeat_seconds: Annotated[
        float, Meta(description="How often a worker renews its leases.", ge=0.1, le=1200)
    ] = 10.0
    poll_seconds: Annotated[
        float,
        Meta(
            description="How often work and ended leases are looked for without a hint.",
            ge=0.05,
            le=60,
        ),
    ] = 1.0
