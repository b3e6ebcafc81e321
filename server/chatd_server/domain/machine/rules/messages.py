"""The rules of SendMessage and EditMessage."""

from chatd_server.domain.chat import ChatState, Queued, StopReason
from chatd_server.domain.command import EditMessage, SendMessage
from chatd_server.domain.event import HistoryTruncated
from chatd_server.domain.ids import Instant
from chatd_server.domain.limits import QUEUE_LENGTH_MAX
from chatd_server.domain.machine.change import Change, ask_to_stop, new_message, start_turn
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import ChatBusy, MessageNotFound, QueueFull
from chatd_server.domain.transition import Reply, Transition


def send_now(state: ChatState, command: SendMessage, now: Instant) -> Transition:
    """Idle or failed: to the end of the queue, and the head begins its turn."""
    change = Change(state, now)
    queue = _appended(change, command, promoted=1)
    message = start_turn(change, queue)
    return change.seal(_placed(queue[-1], message, interrupted=False))


def send_later(state: ChatState, command: SendMessage, now: Instant) -> Transition:
    """Busy: to the end of the queue."""
    change = Change(state, now)
    queue = _appended(change, command, promoted=0)
    change.set_queue(queue)
    return change.seal(Reply(queued=queue[-1]))


def send_and_interrupt(state: ChatState, command: SendMessage, now: Instant) -> Transition:
    """A worker holds it: to the end of the queue, and ask the worker to stop."""
    change = Change(state, now)
    queue = _appended(change, command, promoted=0)
    change.set_queue(queue)
    ask_to_stop(change)
    return change.seal(Reply(queued=queue[-1], interrupted=True))


def send_and_replace(state: ChatState, command: SendMessage, now: Instant) -> Transition:
    """Nobody holds it: the open turn ends here, and the head of the queue begins its own."""
    change = Change(state, now)
    queue = _appended(change, command, promoted=1)
    message = start_turn(change, queue, ended=StopReason.INTERRUPTED)
    return change.seal(_placed(queue[-1], message, interrupted=True))


def send_refused(state: ChatState, command: SendMessage, now: Instant) -> Transition:
    """The sender wanted no queue."""
    _ = command, now
    raise ChatBusy(state.status, f"the chat is {state.status}, and the message said REJECT")


def _appended(change: Change, command: SendMessage, *, promoted: int) -> tuple[Queued, ...]:
    queue = (*change.state.queue, new_message(change, command))
    if len(queue) - promoted > QUEUE_LENGTH_MAX:
        raise QueueFull(
            change.state.status,
            f"the queue holds {QUEUE_LENGTH_MAX} messages already; wait, or interrupt the turn",
        )
    return queue


def _placed(sent: Queued, promoted: Message, *, interrupted: bool) -> Reply:
    if promoted.id == sent.id:
        return Reply(message=promoted, interrupted=interrupted)
    return Reply(queued=sent, interrupted=interrupted)


def edit(state: ChatState, command: EditMessage, now: Instant) -> Transition:
    """Remove that message and all behind it, empty the queue, cut the work, begin anew.

    Open calls stand behind the message, so they are removed with their answer and get no
    result. A boundary inside the removed part is gone: the context begins at the first message.
    """
    position = command.position
    turn = state.turn
    last = state.next_position - 1 if turn is None else turn.first_position
    if not 1 <= position <= last:
        raise MessageNotFound(str(position))
    change = Change(state, now)
    change.emit(HistoryTruncated(first_removed_position=position))
    change.set(
        calls=(),
        boundary_position=state.boundary_position if state.boundary_position <= position else 1,
    )
    ended = StopReason.REPLACED if turn is not None and state.stop_reason is None else None
    message = start_turn(change, (new_message(change, command),), ended=ended)
    return change.seal(Reply(message=message, interrupted=ended is not None), removed_from=position)
