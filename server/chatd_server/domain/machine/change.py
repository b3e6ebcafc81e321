"""A transition while it is being decided: its messages, its events, and their numbers.

A rule sets fields, appends messages and logs events. The status is the row's: only `seal` writes it
and logs `status_changed`. So the order of events in a transition is always the same: the fields of
a new chat or a truncation, messages, action, queue, a new boundary, status, deletion.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from chatd_server.domain.chat import (
    Action,
    Attempt,
    AttemptKind,
    ChatConfig,
    ChatState,
    ForkedFrom,
    Lease,
    OpenCall,
    Queued,
    Status,
    StopReason,
    Turn,
)
from chatd_server.domain.command import Create, EditMessage, SendMessage
from chatd_server.domain.context import ContextUse
from chatd_server.domain.event import (
    ActionResolution,
    ActionResolved,
    ChatDeleted,
    Event,
    LoggedEvent,
    MessageCommitted,
    QueueChanged,
    StatusChanged,
)
from chatd_server.domain.failure import ChatError
from chatd_server.domain.ids import AttemptId, Instant, MessageId, ToolCallId, TurnId, derived_uuid
from chatd_server.domain.machine.calls import closing_results, fitting
from chatd_server.domain.machine.payloads import queue_entries
from chatd_server.domain.message import (
    CompactionSource,
    FinishReason,
    Message,
    Part,
    Role,
    ToolErrorKind,
    ToolResult,
    Usage,
    Visibility,
)
from chatd_server.domain.refusal import WrongStatus
from chatd_server.domain.transition import Reply, Transition

_NO_REPLY = Reply()
_NO_OUTCOMES: Mapping[ToolCallId, ToolResult] = {}
NO_ATTEMPT = AttemptId("")
_NO_TURN = TurnId("")
_HELD = frozenset({Status.RUNNING, Status.INTERRUPTING})
"""Rule 4: a row that ends in another status clears the lease."""
TURN = -1
"""Number of the id of a new turn; messages that a transition writes itself have 0, 1, ..."""
_SENT = -2
"""Number of the id of the message that a client sent, queued or not."""
COPIED_TURN = -3
"""Number of the id of the first turn of a fork; those after it count down."""


class Change(msgspec.Struct, eq=False, gc=False):
    """One transition in the making: the new state but for its status, which is `target`.

    Made by `begin`, filled in by one rule, and sealed once.
    """

    #: As it was before.
    state: ChatState
    now: Instant
    target: Final[Status]
    _events: list[LoggedEvent]
    _messages: list[Message]
    boundary_position: int
    archived: bool
    deleted: bool
    lease: Lease | None
    epoch: int
    rescues: int
    turn: Turn | None
    stop_reason: StopReason | None
    last_error: ChatError | None
    calls: tuple[OpenCall, ...]
    action: Action | None
    #: Changed by `set_queue`, which logs it.
    queue: tuple[Queued, ...]
    #: Follows the messages that are added.
    context: ContextUse | None
    usage_total: Usage
    config: ChatConfig
    truncated_at: int
    forked_from: ForkedFrom | None
    #: Why the open turn ends, when another one begins in this transition.
    ended: StopReason | None = None

    @property
    def next_sequence(self) -> int:
        """Sequence of the event that comes next."""
        return self.state.head_sequence + len(self._events) + 1

    def new_id(self, n: int) -> str:
        """Return the n-th id of this transition; the same for the same state and time."""
        return derived_uuid(self.now, self.state.id, self.state.revision + 1, n)

    def emit(self, event: Event) -> None:
        """Log an event that belongs to no message."""
        self._events.append(LoggedEvent(self.next_sequence, self.now, event))

    def add_message(
        self,
        role: Role,
        parts: tuple[Part, ...],
        turn_id: TurnId,
        *,
        message_id: MessageId | None = None,
        created_at: Instant | None = None,
        attempt_id: AttemptId = NO_ATTEMPT,
        closes: bool = False,
        model: str = "",
        response_id: str = "",
        finish_reason: FinishReason | None = None,
        usage: Usage | None = None,
        visibility: Visibility = Visibility.BOTH,
        compressed: bool = False,
        summary_for: CompactionSource | None = None,
    ) -> Message:
        """Append a message to the history. `closes`: its event closes the attempt."""
        sequence = self.state.head_sequence + len(self._events) + 1
        position = self.state.next_position + len(self._messages)
        message = Message(
            id=message_id or MessageId(self.new_id(len(self._messages))),
            position=position,
            role=role,
            parts=parts,
            turn_id=turn_id,
            created_at=self.now if created_at is None else created_at,
            sequence=sequence,
            attempt_id=attempt_id,
            model=model,
            response_id=response_id,
            finish_reason=finish_reason,
            usage=usage,
            visibility=visibility,
            compressed=compressed,
            summary_for=summary_for,
        )
        self._count(message)
        self._messages.append(message)
        committed = MessageCommitted(position, attempt_id if closes else NO_ATTEMPT)
        self._events.append(LoggedEvent(sequence, self.now, committed, message))
        return message

    def begin_context(self) -> None:
        """Begin an empty context: the messages that are added from now on are all of it."""
        self.context = (self.context or ContextUse()).begun_again()

    def _count(self, message: Message) -> None:
        if self.context is not None:
            self.context = self.context.after(message)
        elif message.usage is not None:
            # What the vendor counts needs no knowledge of what came before.
            counted = ContextUse().after(message)
            self.context = None if counted.counted_tokens is None else counted

    def add_results(
        self, results: tuple[ToolResult, ...], turn_id: TurnId, attempt_id: AttemptId = NO_ATTEMPT
    ) -> None:
        """Append results, in order, as tool messages of which each fits one event. The last one
        closes the attempt that is named, if one is.
        """
        groups = fitting(results)
        for group in groups:
            closes = bool(attempt_id) and group is groups[-1]
            self.add_message(Role.TOOL, group, turn_id, attempt_id=attempt_id, closes=closes)

    def close_calls(
        self,
        why: ToolErrorKind = ToolErrorKind.INTERRUPTED,
        outcomes: Mapping[ToolCallId, ToolResult] = _NO_OUTCOMES,
        *,
        attempt_id: AttemptId = NO_ATTEMPT,
    ) -> None:
        """Rule 2: answer every open call. This closes the attempt that is named, if one is."""
        if not self.calls:
            return
        results = closing_results(self.calls, why, self.now, outcomes)
        self.add_results(results, self.open_turn.id, attempt_id)
        self.calls = ()

    def resolve_action(self, resolution: ActionResolution) -> None:
        """Say that the client owes nothing any more, if it owed something."""
        if self.state.action is None:
            return
        self.emit(ActionResolved(turn_id=self.state.action.turn_id, resolution=resolution))
        self.action = None

    def set_queue(self, queue: tuple[Queued, ...]) -> None:
        """Replace the queue, if it differs."""
        if queue == self.state.queue:
            return
        self.emit(QueueChanged(entries=queue_entries(queue)))
        self.queue = queue

    @property
    def open_turn(self) -> Turn:
        """The turn that was open before, or had failed; only asked for where there must be one."""
        turn = self.state.turn
        assert turn is not None, "this status has a turn"
        return turn

    def open_attempt(self, attempt_id: AttemptId, kind: AttemptKind | None = None) -> Attempt:
        """Return the open attempt. Raises WrongStatus unless it has this id, and this kind."""
        turn = self.state.turn
        attempt = None if turn is None else turn.attempt
        if attempt is None or attempt.id != attempt_id or (kind and attempt.kind is not kind):
            raise WrongStatus(
                self.state.status, f"{attempt_id[:64]!r} is not the open attempt of this kind"
            )
        return attempt

    def seal(self, reply: Reply = _NO_REPLY, *, removed_from: int | None = None) -> Transition:
        """Return the finished transition."""
        old = self.state
        if (
            self.target is not old.status
            or self.ended is not None
            or self.archived is not old.archived
            or old.revision == 0
        ):
            self._log_status()
        if self.deleted and not old.deleted:
            self.emit(ChatDeleted())
        # By position, in the order of the class: by name, or with msgspec.structs.replace, it takes
        # five times as long. A test gives every field a value of its own.
        state = ChatState(
            old.id,
            old.owner_id,
            old.root_id,
            old.created_at,
            self.now,
            old.parent_id,
            old.parent_call_id,
            old.revision + 1,
            old.head_sequence + len(self._events),
            old.oldest_sequence,
            old.next_position + len(self._messages),
            self.boundary_position,
            self.target,
            self.archived,
            self.deleted,
            self.lease if self.target in _HELD else None,
            self.epoch,
            old.journal,
            self.rescues,
            self.turn,
            self.stop_reason,
            self.last_error,
            self.calls,
            self.action,
            self.queue,
            self.context,
            self.usage_total,
            self.config,
            self.truncated_at,
            self.forked_from,
        )
        return Transition(state, tuple(self._events), tuple(self._messages), removed_from, reply)

    def _log_status(self) -> None:
        """Log the end of the turn that was cut for another one; then where the chat is now."""
        if self.ended is not None:
            self._log_status_of(self.open_turn.id, self.ended)
        turn = self.turn or self.state.turn
        self._log_status_of(_NO_TURN if turn is None else turn.id, self.stop_reason)

    def _log_status_of(self, turn_id: TurnId, stop_reason: StopReason | None) -> None:
        self.emit(
            StatusChanged(
                status=self.target,
                turn_id=turn_id,
                stop_reason=stop_reason,
                last_error=self.last_error,
                archived=self.archived,
            )
        )

    def unchanged(self, reply: Reply = _NO_REPLY) -> Transition:
        """Return success with nothing to write."""
        return Transition(state=self.state, reply=reply, changed=False)


def begin(state: ChatState, now: Instant, target: Status) -> Change:
    """Return a change that has changed nothing yet. By position, as in `seal`."""
    return Change(
        state,
        now,
        target,
        [],
        [],
        state.boundary_position,
        state.archived,
        state.deleted,
        state.lease,
        state.epoch,
        state.rescues,
        state.turn,
        state.stop_reason,
        state.last_error,
        state.calls,
        state.action,
        state.queue,
        state.context,
        state.usage_total,
        state.config,
        state.truncated_at,
        state.forked_from,
    )


# --- what several rules do -----------------------------------------------------------------


def begin_turn(
    change: Change, queue: tuple[Queued, ...], *, ended: StopReason = StopReason.INTERRUPTED
) -> Message:
    """Promote the head of `queue` (not empty) into the history and begin its turn.

    `ended`: why the open turn ends, if one is open.
    """
    change.close_calls()
    head = queue[0]
    turn_id = TurnId(change.new_id(TURN))
    message = change.add_message(
        Role.USER, head.parts, turn_id, message_id=head.id, created_at=head.created_at
    )
    change.resolve_action(ActionResolution.CANCELLED)
    change.set_queue(queue[1:])
    change.turn = Turn(id=turn_id, first_position=message.position, options=head.options)
    change.rescues = 0
    change.stop_reason = None
    change.last_error = None
    change.ended = ended if change.state.open_turn_id else None
    return message


def end_turn(change: Change, reason: StopReason) -> None:
    """End the open turn. If the row leads to PENDING, begin the turn of the queue's head."""
    if change.target is Status.PENDING:
        begin_turn(change, change.state.queue, ended=reason)
        return
    change.close_calls()
    change.resolve_action(ActionResolution.CANCELLED)
    change.turn = None
    change.rescues = 0
    change.stop_reason = reason
    change.last_error = None


def fail_turn(change: Change, error: ChatError) -> None:
    """Stop the open turn with an error; it may be retried, so its record stays."""
    change.close_calls()
    change.turn = msgspec.structs.replace(change.open_turn, attempt=None, next_attempt_at=None)
    change.rescues = 0
    change.stop_reason = StopReason.ERROR
    change.last_error = error


def new_message(change: Change, command: Create | SendMessage | EditMessage) -> Queued:
    """Return the message that a client sent, as the queue keeps it."""
    return Queued(
        id=MessageId(change.new_id(_SENT)),
        parts=command.parts,
        created_at=change.now,
        options=command.options,
    )
