"""The rules of the queue."""

from chatd_server.domain.chat import Queued
from chatd_server.domain.command import DeleteQueued, PromoteQueued, ReorderQueue
from chatd_server.domain.machine.change import Change, begin_turn
from chatd_server.domain.refusal import InvalidRequest, MessageNotFound, Violation
from chatd_server.domain.transition import Reply, Transition


def delete_queued(change: Change, command: DeleteQueued) -> Transition:
    queue = change.state.queue
    return _queued(change, tuple(one for one in queue if one.id != command.message_id))


def reorder(change: Change, command: ReorderQueue) -> Transition:
    """Raises InvalidRequest unless exactly the messages of the queue are named."""
    present = {one.id: one for one in change.state.queue}
    if len(command.message_ids) != len(present) or present.keys() != set(command.message_ids):
        raise InvalidRequest(
            Violation(
                "message_ids",
                f"must name each of the {len(present)} queued messages once; list them again",
            )
        )
    return _queued(change, tuple(present[message_id] for message_id in command.message_ids))


def _queued(change: Change, queue: tuple[Queued, ...]) -> Transition:
    if queue == change.state.queue:
        return change.unchanged()
    change.set_queue(queue)
    return change.seal()


def promote_now(change: Change, command: PromoteQueued) -> Transition:
    """No worker holds the chat: the message begins its turn, and an open turn ends."""
    message = begin_turn(change, _to_head(change, command))
    return change.seal(Reply(message=message, interrupted=change.ended is not None))


def promote_next(change: Change, command: PromoteQueued) -> Transition:
    """Move the message to the head of the queue. The status asks the worker to stop."""
    state = change.state
    queue = _to_head(change, command)
    reply = Reply(queued=queue[0], interrupted=True)
    if queue == state.queue and state.status is change.target:
        return change.unchanged(reply)
    change.set_queue(queue)
    return change.seal(reply)


def _to_head(change: Change, command: PromoteQueued) -> tuple[Queued, ...]:
    queue = change.state.queue
    head = tuple(one for one in queue if one.id == command.message_id)
    if not head:
        raise MessageNotFound(command.message_id)
    return head + tuple(one for one in queue if one.id != command.message_id)
