"""The rules of the lease: take it, give it back, lose it."""

import msgspec

from chatd_server.domain.chat import Lease, Turn
from chatd_server.domain.command import Acquire, Release, Rescue
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.machine.change import Change, fail_turn
from chatd_server.domain.transition import Transition


def acquire(change: Change, command: Acquire) -> Transition:
    """Take the lease: a new epoch. An attempt of an earlier worker is void."""
    epoch = change.state.epoch + 1
    change.lease = Lease(
        worker_id=command.worker_id,
        epoch=epoch,
        expires_at=change.now + round(command.lease_seconds * MICROSECONDS),
    )
    change.epoch = epoch
    change.turn = _without_attempt(change.open_turn)
    return change.seal()


def release(change: Change, _command: Release) -> Transition:
    """The turn goes on where its last commit left it."""
    change.turn = _without_attempt(change.open_turn)
    return change.seal()


def rescue(change: Change, _command: Rescue) -> Transition:
    """As Release, and counted."""
    change.lease = None
    change.turn = _without_attempt(change.open_turn)
    change.rescues = change.state.rescues + 1
    return change.seal()


def rescue_no_more(change: Change, _command: Rescue) -> Transition:
    """This turn ends its workers: fail it."""
    fail_turn(
        change,
        ChatError(
            kind=ErrorKind.WORKER_LOST,
            message=f"The worker was lost {RESCUES_MAX + 1} times in a row without progress.",
        ),
    )
    return change.seal()


def _without_attempt(turn: Turn) -> Turn:
    return turn if turn.attempt is None else msgspec.structs.replace(turn, attempt=None)
