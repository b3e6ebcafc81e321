"""The rules of the commands that change a chat's queue."""

from chatd_server.domain.chat import ChatState, Queued, Status, StopReason
from chatd_server.domain.command import DeleteQueued, PromoteQueued, ReorderQueue
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine.change import Change, ask_to_stop, start_turn, unchanged
from chatd_server.domain.refusal import InvalidRequest, MessageNotFound, Violation
from chatd_server.domain.transition import Reply, Transition


def delete_queued(state: ChatState, command: DeleteQueued, now: Instant) -> Transition:
    """Take a message out of the queue; absent is success."""
    return _queued(state, tuple(one for one in state.queue if one.id != command.message_id), now)


def reorder(state: ChatState, command: ReorderQueue, now: Instant) -> Transition:
    """Put the queue in this order. Raises InvalidRequest unless exactly its messages are named."""
    present = {one.id: one for one in state.queue}
    if len(command.message_ids) != len(present) or present.keys() != set(command.message_ids):
        raise InvalidRequest(
            Violation(
                "message_ids",
                f"must name each of the {len(present)} queued messages once; list them again",
            )
        )
    return _queued(state, tuple(present[message_id] for message_id in command.message_ids), now)


def _queued(state: ChatState, queue: tuple[Queued, ...], now: Instant) -> Transition:
    if queue == state.queue:
        return unchanged(state)
    change = Change(state, now)
    change.set_queue(queue)
    return change.seal()


def promote_now(state: ChatState, command: PromoteQueued, now: Instant) -> Transition:
    """Nobody holds the chat: the message begins its turn; an open one ends here."""
    queue = _to_head(state, command)
    change = Change(state, now)
    ended = None if state.status is Status.ERROR else StopReason.INTERRUPTED
    message = start_turn(change, queue, ended=ended)
    return change.seal(Reply(message=message, interrupted=ended is not None))


def promote_next(state: ChatState, command: PromoteQueued, now: Instant) -> Transition:
    """A worker holds the chat: to the head of the queue, and ask the worker to stop."""
    queue = _to_head(state, command)
    reply = Reply(queued=queue[0], interrupted=True)
    if queue == state.queue and state.status is Status.INTERRUPTING:
        return unchanged(state, reply)
    change = Change(state, now)
    change.set_queue(queue)
    ask_to_stop(change)
    return change.seal(reply)


def _to_head(state: ChatState, command: PromoteQueued) -> tuple[Queued, ...]:
    head = tuple(one for one in state.queue if one.id == command.message_id)
    if not head:
        raise MessageNotFound(command.message_id)
    return head + tuple(one for one in state.queue if one.id != command.message_id)
