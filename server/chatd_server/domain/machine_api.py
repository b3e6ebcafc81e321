"""The rules of the clients' commands: one pure function for each group of rows of the table.

`machine.advance` has checked before that the row exists; a rule decides what is written.
"""

import msgspec

from chatd_server.domain.chat import ChatConfig, ChatState, Queued, Status, StopReason, Turn
from chatd_server.domain.command import (
    ClearContext,
    Create,
    DeleteChat,
    EditMessage,
    Interrupt,
    RequestCompaction,
    RetryTurn,
    SendMessage,
    SetArchived,
    SetTitle,
    SubmitToolResults,
    UpdateChat,
)
from chatd_server.domain.event import (
    ActionResolution,
    ChatUpdated,
    CompactionFinished,
    CompactionSource,
    HistoryTruncated,
)
from chatd_server.domain.ids import Instant, MessageId, TurnId
from chatd_server.domain.limits import QUEUE_LENGTH_MAX
from chatd_server.domain.machine_calls import waiting_calls, with_outcomes
from chatd_server.domain.machine_change import (
    NO_TURN,
    SENT,
    TURN,
    Change,
    ask_to_stop,
    end_turn,
    start_turn,
    unchanged,
)
from chatd_server.domain.machine_events import chat_updated
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import (
    ChatBusy,
    EtagMismatch,
    MessageNotFound,
    NothingToCompact,
    QueueFull,
)
from chatd_server.domain.transition import Reply, Transition

# --- messages ------------------------------------------------------------------------------


def create(command: Create, now: Instant) -> Transition:
    """Make the chat. Its log begins with what a reader cannot know otherwise: the fields that
    were given, the first message, the status.
    """
    change = Change(
        ChatState(
            id=command.chat_id,
            owner_id=command.owner_id,
            root_id=command.root_id or command.chat_id,
            created_at=now,
            updated_at=now,
            parent_id=command.parent_id,
            parent_call_id=command.parent_call_id,
            config=command.config,
        ),
        now,
    )
    given = chat_updated(ChatConfig(), command.config)
    if given != ChatUpdated():
        change.emit(given)
    if not command.parts:
        change.say_status(Status.WAITING, NO_TURN)
        return change.seal()
    message = start_turn(change, (_new_message(change, command),))
    return change.seal(Reply(message=message))


def _new_message(change: Change, command: Create | SendMessage | EditMessage) -> Queued:
    return Queued(
        id=MessageId(change.new_id(SENT)),
        parts=command.parts,
        created_at=change.now,
        options=command.options,
    )


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
    queue = (*change.state.queue, _new_message(change, command))
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
    message = start_turn(change, (_new_message(change, command),), ended=ended)
    return change.seal(Reply(message=message, interrupted=ended is not None), removed_from=position)


# --- interrupt, action, retry --------------------------------------------------------------


def interrupt_running(state: ChatState, command: Interrupt, now: Instant) -> Transition:
    """Ask the worker to save the partial step and stop."""
    _ = command
    change = Change(state, now)
    ask_to_stop(change)
    return change.seal(Reply(interrupted=True))


def interrupt_idle(state: ChatState, command: Interrupt, now: Instant) -> Transition:
    """Nobody holds it: the turn ends here."""
    _ = command
    change = Change(state, now)
    end_turn(change, state.queue, StopReason.INTERRUPTED)
    return change.seal(Reply(interrupted=True))


def interrupt_nothing(state: ChatState, command: Interrupt, now: Instant) -> Transition:
    """Success with nothing to do: no turn is open, another one is, or it is being cut."""
    _ = now
    cut = state.status is Status.INTERRUPTING and names_open_turn(state, command)
    return unchanged(state, Reply(interrupted=cut))


def names_open_turn(state: ChatState, command: Interrupt | SendMessage) -> bool:
    """Rule 8: say whether the command means the turn that is open."""
    expected = command.expected_turn_id
    return not expected or (state.turn is not None and state.turn.id == expected)


def submit_all(state: ChatState, command: SubmitToolResults, now: Instant) -> Transition:
    """Commit the client's results, kept ones included, in call order; the turn goes on."""
    change = Change(state, now)
    change.set(calls=with_outcomes(state.calls, command, now))
    change.close_calls()
    change.resolve_action(ActionResolution.SUBMITTED)
    change.set(status=Status.PENDING, rescues=0)
    change.say_status(Status.PENDING, change.turn.id)
    return change.seal()


def submit_some(state: ChatState, command: SubmitToolResults, now: Instant) -> Transition:
    """Keep these results and wait for the rest."""
    change = Change(state, now)
    calls = with_outcomes(state.calls, command, now)
    reply = Reply(missing=waiting_calls(calls))
    if calls == state.calls:
        return unchanged(state, reply)
    change.set(calls=calls)
    return change.seal(reply)


def retry(state: ChatState, command: RetryTurn, now: Instant) -> Transition:
    """The same turn again, with a full ladder of attempts."""
    _ = command
    change = Change(state, now)
    change.set(
        status=Status.PENDING,
        turn=msgspec.structs.replace(change.turn, failed_attempts=0, next_attempt_at=None),
        stop_reason=None,
        last_error=None,
    )
    change.say_status(Status.PENDING, change.turn.id)
    return change.seal()


# --- context -------------------------------------------------------------------------------


def request_compaction(state: ChatState, command: RequestCompaction, now: Instant) -> Transition:
    """Open a turn that compacts and does nothing else.

    Raises NothingToCompact when the context is empty or one message.
    """
    _ = command
    if state.next_position - state.boundary_position <= 1:
        raise NothingToCompact(state.status, "the context has at most one message")
    change = Change(state, now)
    turn = Turn(
        id=TurnId(change.new_id(TURN)),
        first_position=state.next_position,
        compaction_requested=True,
    )
    change.set(status=Status.PENDING, turn=turn, rescues=0, stop_reason=None, last_error=None)
    change.say_status(Status.PENDING, turn.id)
    return change.seal()


def clear_context(state: ChatState, command: ClearContext, now: Instant) -> Transition:
    """Let the context begin behind the newest message. A failed turn is given up."""
    _ = command
    failed = state.turn
    if failed is None and state.boundary_position == state.next_position:
        return unchanged(state)
    change = Change(state, now)
    change.close_calls()
    change.emit(
        CompactionFinished(source=CompactionSource.CLEAR, boundary_position=state.next_position)
    )
    change.set(boundary_position=state.next_position)
    if failed is not None:
        change.set(status=Status.WAITING, turn=None, last_error=None)
        change.say_status(Status.WAITING, failed.id, state.stop_reason)
    return change.seal()


# --- fields --------------------------------------------------------------------------------


def update(state: ChatState, command: UpdateChat, now: Instant) -> Transition:
    """Change fields. Raises EtagMismatch when they were changed meanwhile."""
    old = state.config
    if command.etag_version is not None and command.etag_version != old.version:
        raise EtagMismatch("the chat was changed meanwhile; read it again")
    fields = {
        name: value
        for name in ("title", "model", "system_prompt", "labels", "tools", "action_timeout_seconds")
        if (value := getattr(command, name)) is not None and value != getattr(old, name)
    }
    if not fields:
        return unchanged(state)
    return _configured(state, msgspec.structs.replace(old, version=old.version + 1, **fields), now)


def set_title(state: ChatState, command: SetTitle, now: Instant) -> Transition:
    """Write a title."""
    old = state.config
    if command.title == old.title:
        return unchanged(state)
    new = msgspec.structs.replace(old, version=old.version + 1, title=command.title)
    return _configured(state, new, now)


def _configured(state: ChatState, config: ChatConfig, now: Instant) -> Transition:
    change = Change(state, now)
    change.emit(chat_updated(state.config, config))
    change.set(config=config)
    return change.seal()


def only_labels(command: UpdateChat) -> bool:
    """Say whether an update touches labels and nothing else."""
    return msgspec.structs.replace(command, labels=None, etag_version=None) == UpdateChat(
        command_id=command.command_id
    )


def set_archived(state: ChatState, command: SetArchived, now: Instant) -> Transition:
    """Archive or unarchive; the status stays, and so does the error."""
    if command.archived == state.archived:
        return unchanged(state)
    change = Change(state, now)
    change.set(archived=command.archived)
    turn_id = NO_TURN if state.turn is None else state.turn.id
    change.say_status(state.status, turn_id, state.stop_reason)
    return change.seal()


def delete(state: ChatState, command: DeleteChat, now: Instant) -> Transition:
    """Delete softly: an open turn ends as interrupted, nothing is queued, no worker owns it."""
    _ = command
    change = Change(state, now)
    change.set(deleted=True)
    if state.status is Status.ERROR:
        change.set_queue(())
        change.set(status=Status.WAITING, turn=None, last_error=None)
        change.say_status(Status.WAITING, change.turn.id, state.stop_reason)
    elif state.turn is not None:
        end_turn(change, (), StopReason.INTERRUPTED)
    return change.seal()
