"""The rules of the lease: take it, give it back, lose it."""

import msgspec

from chatd_server.domain.chat import ChatState, Lease, Status, Turn
from chatd_server.domain.command import Acquire, Release, Rescue
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.machine.change import Change, fail_turn
from chatd_server.domain.transition import Transition


def acquire(state: ChatState, command: Acquire, now: Instant) -> Transition:
    """Take the lease: a new epoch. An attempt of an earlier worker is void."""
    change = Change(state, now)
    turn = change.turn
    epoch = state.epoch + 1
    change.set(
        lease=Lease(
            worker_id=command.worker_id,
            epoch=epoch,
            expires_at=now + round(command.lease_seconds * MICROSECONDS),
        ),
        epoch=epoch,
        turn=_without_attempt(turn),
    )
    if state.status is Status.PENDING:
        change.set(status=Status.RUNNING)
        change.say_status(Status.RUNNING, turn.id)
    return change.seal()


def release(state: ChatState, command: Release, now: Instant) -> Transition:
    """Give the chat back; the turn goes on where its last commit left it."""
    _ = command
    change = Change(state, now)
    _give_back(change)
    return change.seal()


def rescue(state: ChatState, command: Rescue, now: Instant) -> Transition:
    """The lease has expired: give the chat back, and count it."""
    _ = command
    change = Change(state, now)
    _give_back(change)
    change.set(rescues=state.rescues + 1)
    return change.seal()


def rescue_no_more(state: ChatState, command: Rescue, now: Instant) -> Transition:
    """The lease has expired too often in a row without progress: this turn kills workers."""
    _ = command
    change = Change(state, now)
    fail_turn(
        change,
        ChatError(
            kind=ErrorKind.WORKER_LOST,
            message=(f"The worker was lost {RESCUES_MAX + 1} times in a row without progress."),
        ),
    )
    return change.seal()


def _give_back(change: Change) -> None:
    turn = change.turn
    change.set(lease=None, turn=_without_attempt(turn))
    if change.state.status is Status.RUNNING:
        change.set(status=Status.PENDING)
        change.say_status(Status.PENDING, turn.id)


def _without_attempt(turn: Turn) -> Turn:
    return turn if turn.attempt is None else msgspec.structs.replace(turn, attempt=None)
