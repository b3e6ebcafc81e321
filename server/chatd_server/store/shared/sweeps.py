"""Sweeps: what a worker does to each chat that a query finds. The query selects roughly; `decide`
refuses the chats that are not due after all, and a sweep passes over them.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from chatd_server.domain.acquisition import acquisition
from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command, ExpireAction, Rescue
from chatd_server.domain.ids import MICROSECONDS, Instant, WorkerId
from chatd_server.domain.refusal import LeaseLost, Refused

PRUNE_CHATS_MAX = 100
"""Chats whose events one transaction prunes, so that no commit waits long for it."""
PRUNE_COMMANDS_MAX = 2_000
"""Command records that one transaction prunes, for the same reason."""

NOT_DUE = (Refused, LeaseLost)
"""What `decide` raises for a chat that a sweep passes over."""

OrderFor: TypeAlias = Callable[[ChatState, Instant], Command | Chain]
"""Returns the order for a chat that was found, at a moment."""


def acquire(worker_id: WorkerId, lease_seconds: float) -> OrderFor:
    """Take a chat that has work."""
    return lambda state, now: acquisition(state, worker_id, lease_seconds, now)


def rescue(worker_id: WorkerId) -> OrderFor:
    """Give back a chat whose lease has expired."""
    return lambda state, _: Rescue(
        command_id=f"rescue:{state.epoch}", worker_id=worker_id, epoch=state.epoch
    )


def expire(worker_id: WorkerId) -> OrderFor:
    """Answer an action that is past its deadline."""
    return lambda state, _: ExpireAction(
        command_id=f"expire:{0 if state.action is None else state.action.sequence}",
        worker_id=worker_id,
        epoch=state.epoch,
    )


def passed_over_seconds(due: Sequence[Instant], now: Instant) -> float | None:
    """Return for how long the newest of the chats that were passed over has been due."""
    return (now - max(due)) / MICROSECONDS if due else None


def lease_micros(seconds: float) -> int:
    """Return how far a heartbeat moves the end of a lease."""
    return round(seconds * MICROSECONDS)
