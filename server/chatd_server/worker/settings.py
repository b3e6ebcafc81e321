"""What a worker may be told."""

from dataclasses import dataclass

LOOK_AGAIN_SECONDS_MIN = 0.005
"""A row is held for the time of a commit: sooner it would most likely be passed over again."""


@dataclass(frozen=True)
class WorkerSettings:
    """Units are in the names."""

    #: Chats that one worker runs at a time; more wait as pending.
    slots_max: int = 64
    #: Chats taken by one statement. Few, because they all call their models in the same turn of
    #: the event loop, and the tokens of the others wait behind that.
    acquire_batch_max: int = 4
    #: How long a worker may be silent before its chats are given to others. Three beats.
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 10.0
    #: The net under lost hints: how long work waits at worst when nobody said that it is there,
    #: and an expired lease or deadline until somebody looks.
    poll_seconds: float = 1.0
    #: Chats that one rescue takes; a crashed process with full slots is two statements.
    rescue_batch_max: int = 50
    #: How long a drain lets runs go on before it cuts them.
    drain_seconds: float = 20.0
