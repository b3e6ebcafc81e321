"""The rules of SendMessage and EditMessage."""

from typing import NoReturn

from chatd_server.domain.chat import Queued, StopReason
from chatd_server.domain.command import EditMessage, SendMessage
from chatd_server.domain.event import HistoryTruncated
from chatd_server.domain.limits import QUEUE_LENGTH_MAX
from chatd_server.domain.machine.change import Change, begin_turn, new_message
from chatd_server.domain.refusal import ChatBusy, HistoryChanged, MessageNotFound, QueueFull
from chatd_server.domain.transition import Reply, Transition


def send_now(change: Change, command: SendMessage) -> Transition:
    """Append to the queue; the head begins its turn, and an open turn ends."""
    queue = _appended(change, command, promoted=1)
    message = begin_turn(change, queue)
    interrupted = change.ended is not None
    after = change.state.head_sequence
    if message.id == queue[-1].id:
        return change.seal(Reply(message=message, interrupted=interrupted, after=after))
    return change.seal(Reply(queued=queue[-1], interrupted=interrupted, after=after))


def send_later(change: Change, command: SendMessage) -> Transition:
    """Append to the queue."""
    queue = _appended(change, command, promoted=0)
    change.set_queue(queue)
    return change.seal(Reply(queued=queue[-1], after=change.state.head_sequence))


def send_and_interrupt(change: Change, command: SendMessage) -> Transition:
    """Append to the queue. The status asks the worker to stop; the head begins its turn then."""
    queue = _appended(change, command, promoted=0)
    change.set_queue(queue)
    after = change.state.head_sequence
    return change.seal(Reply(queued=queue[-1], interrupted=True, after=after))


def send_refused(change: Change, _command: SendMessage) -> NoReturn:
    status = change.state.status
    raise ChatBusy(status, f"the chat is {status}, and the message said REJECT")


def _appended(change: Change, command: SendMessage, *, promoted: int) -> tuple[Queued, ...]:
    queue = (*change.state.queue, new_message(change, command))
    if len(queue) - promoted > QUEUE_LENGTH_MAX:
        raise QueueFull(
            change.state.status,
            f"the queue holds {QUEUE_LENGTH_MAX} messages already; wait, or interrupt the turn",
        )
    return queue


def edit(change: Change, command: EditMessage) -> Transition:
    """Remove that message and all after it, empty the queue, and begin the turn of the new one.

    Open calls stand after the message: they are removed with their answer and get no result. A
    boundary inside the removed part is gone: the context begins at the first message again.
    """
    state = change.state
    position = command.position
    turn = state.turn
    last = state.next_position - 1 if turn is None else turn.first_position
    if not 1 <= position <= last:
        raise MessageNotFound(str(position))
    if command.seen_sequence is not None and state.truncated_at > command.seen_sequence:
        raise HistoryChanged(str(position))
    change.truncated_at = change.next_sequence
    change.emit(HistoryTruncated(first_removed_position=position))
    change.calls = ()
    change.boundary_position = state.boundary_position if state.boundary_position <= position else 1
    if position == change.boundary_position:
        change.begin_context()
    else:
        change.context = None  # how much of it the removed part was, only the next answer tells
    message = begin_turn(change, (new_message(change, command),), ended=StopReason.REPLACED)
    reply = Reply(message=message, interrupted=change.ended is not None)
    return change.seal(reply, removed_from=position)
