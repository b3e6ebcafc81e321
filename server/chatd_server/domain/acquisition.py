"""What a worker writes when it takes a chat: the lease, and often its first attempt."""

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import AttemptKind, ChatState, Status
from chatd_server.domain.command import Acquire, StartAttempt
from chatd_server.domain.ids import AttemptId, Instant, WorkerId, derived_uuid
from chatd_server.domain.limits import STEPS_PER_TURN_MAX


def acquisition(
    state: ChatState, worker_id: WorkerId, lease_seconds: float, now: Instant
) -> Acquire | Chain:
    """Return the order that takes the chat, with its first model call when one is owed."""
    epoch = state.epoch + 1
    acquire = Acquire(
        command_id=f"acquire:{epoch}",
        worker_id=worker_id,
        epoch=state.epoch,
        lease_seconds=lease_seconds,
    )
    if not owes_model_call(state, now):
        return acquire
    # Id 0 of the second revision that the chain makes, which StartAttempt itself does not use.
    attempt_id = AttemptId(derived_uuid(now, state.id, state.revision + 2, 0))
    start = StartAttempt(
        command_id=f"{attempt_id}:start",
        worker_id=worker_id,
        epoch=epoch,
        attempt_id=attempt_id,
        kind=AttemptKind.MODEL,
    )
    return Chain((acquire, start))


def owes_model_call(state: ChatState, now: Instant) -> bool:
    """Say whether the worker that takes the chat will call the model, as far as the state tells.

    The last answer of the turn may have ended it; that is not looked up. A compaction may be due
    first; only the worker knows the threshold and the window. An attempt that begins for nothing is
    logged and shown nowhere, and the next attempt or the end of the turn closes it.
    """
    turn = state.turn
    return (
        state.status is Status.PENDING
        and turn is not None
        and not state.calls
        and not turn.stop_after
        and not turn.compaction_requested
        and turn.steps < (turn.options.max_steps or STEPS_PER_TURN_MAX)
        and (turn.next_attempt_at is None or turn.next_attempt_at <= now)
    )
