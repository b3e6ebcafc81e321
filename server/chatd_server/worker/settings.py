"""The settings of a worker."""

from dataclasses import dataclass

LOOK_AGAIN_SECONDS_MIN = 0.005
"""About the time that a commit holds a row: an earlier look would most likely skip it again."""


@dataclass(frozen=True)
class WorkerSettings:
    """The names give the units."""

    #: Chats that one worker runs at a time; more wait as pending.
    slots_max: int = 64
    #: Chats taken by one statement. Few, because all of them call their models in the same turn of
    #: the event loop, which delays the tokens of the other chats.
    acquire_batch_max: int = 4
    #: How long a worker may be silent before other workers take its chats. Three heartbeats.
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 10.0
    #: The fallback for lost hints: the longest time that work waits without a hint, and that an
    #: expired lease or deadline waits for a check.
    poll_seconds: float = 1.0
    #: Chats per rescue; a crashed process with all slots full takes two statements.
    rescue_batch_max: int = 50
    #: How long a drain lets runs continue before it stops them.
    drain_seconds: float = 20.0
