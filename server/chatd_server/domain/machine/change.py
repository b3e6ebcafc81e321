"""A transition while it is being decided: its messages, its events, and their numbers.

The order of events inside one transition is always the same: the fields of a new chat or a
truncation, messages, action, queue, a new boundary, and the status last.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from chatd_server.domain.chat import (
    Attempt,
    AttemptKind,
    ChatState,
    OpenCall,
    Queued,
    Status,
    StopReason,
    Turn,
)
from chatd_server.domain.command import Create, EditMessage, SendMessage
from chatd_server.domain.event import (
    ActionResolution,
    ActionResolved,
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
NO_TURN = TurnId("")
TURN = -1
"""Which id of a transition is its new turn's; messages that it writes itself have 0, 1, ..."""
SENT = -2
"""Which id is that of the message that a client sent, whether it is queued or begins its turn."""


class Change:
    """One transition in the making; used by one rule, and sealed once."""

    __slots__ = ("_events", "_fields", "_messages", "_position", "_sequence", "now", "state")

    def __init__(self, state: ChatState, now: Instant) -> None:
        self.state = state
        self.now = now
        self._sequence = state.head_sequence
        self._position = state.next_position
        self._events: list[LoggedEvent] = []
        self._messages: list[Message] = []
        self._fields: dict[str, Any] = {}

    @property
    def next_sequence(self) -> int:
        """Sequence of the event that comes next."""
        return self._sequence + 1

    def new_id(self, n: int) -> str:
        """Return the n-th id of this transition; the same for the same state and time."""
        return derived_uuid(self.now, self.state.id, self.state.revision + 1, n)

    def set(self, **fields: object) -> None:
        """Set fields of the new state."""
        self._fields.update(fields)

    def emit(self, event: Event) -> None:
        """Log an event that belongs to no message."""
        self._sequence += 1
        self._events.append(LoggedEvent(sequence=self._sequence, at=self.now, event=event))

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
    ) -> Message:
        """Append a message to the history. `closes`: its event closes the attempt."""
        self._sequence = sequence = self._sequence + 1
        position = self._position
        self._position = position + 1
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
        )
        self._messages.append(message)
        self._events.append(
            LoggedEvent(
                sequence=sequence,
                at=self.now,
                event=MessageCommitted(
                    position=position, attempt_id=attempt_id if closes else NO_ATTEMPT
                ),
                message=message,
            )
        )
        return message

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
        calls = self._fields.get("calls", self.state.calls)
        if not calls:
            return
        results = closing_results(calls, why, self.now, outcomes)
        self.add_results(results, self.turn.id, attempt_id)
        self._fields["calls"] = ()

    def resolve_action(self, resolution: ActionResolution) -> None:
        """Say that the client owes nothing any more, if it owed something."""
        if self.state.action is None:
            return
        self.emit(ActionResolved(turn_id=self.state.action.turn_id, resolution=resolution))
        self._fields["action"] = None

    def set_queue(self, queue: tuple[Queued, ...]) -> None:
        """Replace the queue, if it differs."""
        if queue == self.state.queue:
            return
        self.emit(QueueChanged(entries=queue_entries(queue)))
        self._fields["queue"] = queue

    @property
    def turn(self) -> Turn:
        """The record of the open or failed turn; only asked for where there must be one."""
        turn = self.state.turn
        assert turn is not None, "this status has a turn"
        return turn

    def say_status(
        self, status: Status, turn_id: TurnId, stop_reason: StopReason | None = None
    ) -> None:
        """Log the status, or that a turn began (without a stop reason) or ended (with one)."""
        self.emit(
            StatusChanged(
                status=status,
                turn_id=turn_id,
                stop_reason=stop_reason,
                last_error=self._fields.get("last_error", self.state.last_error),
                archived=self._fields.get("archived", self.state.archived),
            )
        )

    def seal(self, reply: Reply = _NO_REPLY, *, removed_from: int | None = None) -> Transition:
        """Return the finished transition."""
        return Transition(
            state=msgspec.structs.replace(
                self.state,
                revision=self.state.revision + 1,
                head_sequence=self._sequence,
                next_position=self._position,
                updated_at=self.now,
                **self._fields,
            ),
            events=tuple(self._events),
            messages=tuple(self._messages),
            removed_from=removed_from,
            reply=reply,
        )

    def seal_step(
        self, *, turn: Turn, calls: tuple[OpenCall, ...], usage_total: Usage
    ) -> Transition:
        """Return the finished transition of a step that went on: the hot path of `seal`."""
        state = self.state
        return Transition(
            msgspec.structs.replace(
                state,
                revision=state.revision + 1,
                head_sequence=self._sequence,
                next_position=self._position,
                updated_at=self.now,
                turn=turn,
                rescues=0,
                calls=calls,
                usage_total=usage_total,
            ),
            tuple(self._events),
            tuple(self._messages),
        )


def unchanged(state: ChatState, reply: Reply = _NO_REPLY) -> Transition:
    """Return success with nothing to write."""
    return Transition(state=state, reply=reply, changed=False)


# --- what several rules do -----------------------------------------------------------------


def start_turn(
    change: Change, queue: tuple[Queued, ...], *, ended: StopReason | None = None
) -> Message:
    """Promote the head of `queue` (not empty) into the history and begin its turn: pending.

    `ended`: why the open turn ends; None when none is open. A follower of either turn sees it:
    one status event ends the old turn, one begins the new.
    """
    change.close_calls()
    head = queue[0]
    turn_id = TurnId(change.new_id(TURN))
    message = change.add_message(
        Role.USER, head.parts, turn_id, message_id=head.id, created_at=head.created_at
    )
    change.resolve_action(ActionResolution.CANCELLED)
    change.set_queue(queue[1:])
    change.set(
        status=Status.PENDING,
        turn=Turn(id=turn_id, first_position=message.position, options=head.options),
        lease=None,
        rescues=0,
        stop_reason=None,
        last_error=None,
    )
    if ended is not None:
        change.say_status(Status.PENDING, change.turn.id, ended)
    change.say_status(Status.PENDING, turn_id)
    return message


def ask_to_stop(change: Change) -> None:
    """Ask the worker that holds the chat to save the partial step and stop."""
    if change.state.status is Status.RUNNING:
        change.set(status=Status.INTERRUPTING)
        change.say_status(Status.INTERRUPTING, change.turn.id)


def end_turn(change: Change, queue: tuple[Queued, ...], ended: StopReason) -> Message | None:
    """End the open turn; begin that of the queue's head, or wait when there is none."""
    if queue:
        return start_turn(change, queue, ended=ended)
    turn_id = change.turn.id
    change.close_calls()
    change.resolve_action(ActionResolution.CANCELLED)
    change.set_queue(())
    change.set(
        status=Status.WAITING, turn=None, lease=None, rescues=0, stop_reason=ended, last_error=None
    )
    change.say_status(Status.WAITING, turn_id, ended)
    return None


def fail_turn(change: Change, error: ChatError) -> None:
    """Stop the open turn with an error; it may be retried, so its record stays."""
    turn = change.turn
    change.close_calls()
    change.set(
        status=Status.ERROR,
        turn=msgspec.structs.replace(turn, attempt=None, next_attempt_at=None),
        lease=None,
        rescues=0,
        stop_reason=StopReason.ERROR,
        last_error=error,
    )
    change.say_status(Status.ERROR, turn.id, StopReason.ERROR)


def new_message(change: Change, command: Create | SendMessage | EditMessage) -> Queued:
    """Return the message that a client sent, as the queue keeps it."""
    return Queued(
        id=MessageId(change.new_id(SENT)),
        parts=command.parts,
        created_at=change.now,
        options=command.options,
    )


def progressed(
    turn: Turn, *, steps: int = 0, compactions: int = 0, stop_after: bool = False
) -> Turn:
    """Return the turn after a commit: its attempt is over, and the count of failures too."""
    return Turn(
        id=turn.id,
        first_position=turn.first_position,
        options=turn.options,
        steps=turn.steps + steps,
        compactions=turn.compactions + compactions,
        stop_after=turn.stop_after or stop_after,
        compaction_requested=turn.compaction_requested,
    )


def turn_of(state: ChatState) -> Turn:
    """Return the record of the open turn; only asked for where there must be one."""
    turn = state.turn
    assert turn is not None, "a chat that a worker holds has a turn"
    return turn


def open_attempt(
    state: ChatState, attempt_id: AttemptId, kind: AttemptKind | None = None
) -> Attempt:
    """Return the open attempt. Raises WrongStatus unless it is this one, and of this kind."""
    attempt = turn_of(state).attempt
    if attempt is None or attempt.id != attempt_id or (kind and attempt.kind is not kind):
        raise WrongStatus(state.status, f"{attempt_id[:64]!r} is not the open attempt of this kind")
    return attempt
