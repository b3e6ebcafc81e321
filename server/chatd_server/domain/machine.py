"""The state machine of a chat: one table, and `advance`, its only reader.

Everything that decides what may happen next changes through `advance`: it is pure, so a store
may call it inside a transaction, twice, or on another replica, and gets the same answer.

Rules that hold in every row:

1. A command without a row is refused (WrongStatus) with the actual status.
2. Open tool calls: see `machine_calls`.
3. Leaving `error` clears the error, archiving does not.
4. The lease is set by Acquire only, kept from running to interrupting, and cleared by every
   row that ends in another status. A worker's command without the newest lease is LeaseLost.
5. A stop has a cause; it arrives here as the command that was chosen because of it.
6. On an archived chat only the rows marked so are possible, else ChatArchived.
7. `now` is store time. Rows that depend on it say so in their guard.
8. A client that names the turn it means to cut cuts no other.
9. A family is archived as a whole: `machine_family`.

Events of one transition stand in a fixed order: truncation, messages, action, queue, status.
Every change of the status is exactly one `status_changed`. When a turn ends and the queue's
head begins the next one, there are two, both with the status that the chat has then: the first
names the old turn and why it ended, the second names the new turn.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from chatd_server.domain import machine_api as api
from chatd_server.domain import machine_queue as queue
from chatd_server.domain import machine_worker as worker
from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import (
    Acquire,
    ApiCommand,
    BusyBehavior,
    ClearContext,
    Command,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    Create,
    DeleteChat,
    DeleteQueued,
    EditMessage,
    ExpireAction,
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    PromoteQueued,
    Release,
    ReorderQueue,
    RequestCompaction,
    RequireAction,
    Rescue,
    RetryTurn,
    ScheduleRetry,
    SendMessage,
    SetArchived,
    SetTitle,
    StartAttempt,
    SubmitToolResults,
    UpdateChat,
    WorkerCommand,
)
from chatd_server.domain.ids import Instant
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.machine_calls import completes
from chatd_server.domain.refusal import (
    ChatArchived,
    ChatNotFound,
    LeaseLost,
    NotWaitingForAction,
    WrongStatus,
)
from chatd_server.domain.transition import Transition

# A rule and a guard take the command of their row, which a table cannot say in types.
Rule: TypeAlias = Callable[[ChatState, Any, Instant], Transition]
Guard: TypeAlias = Callable[[ChatState, Any, Instant], bool]


class Row(msgspec.Struct, frozen=True):
    """One row: in one of these statuses, and if the guard holds, this command is possible."""

    command: type[ApiCommand | WorkerCommand]
    statuses: tuple[Status, ...]
    #: Name in GUARDS; empty means always.
    guard: str
    #: Every status that the rule may end in; empty means that the status stays.
    targets: tuple[Status, ...]
    rule: Rule
    what: str
    #: Whether it is possible on an archived chat too (rule 6).
    archived: bool = False


GUARDS: Mapping[str, Guard] = {
    "QUEUE": lambda s, c, _: (
        c.busy is BusyBehavior.QUEUE
        or (c.busy is BusyBehavior.INTERRUPT and not api.names_open_turn(s, c))
    ),
    "INTERRUPT": lambda s, c, _: c.busy is BusyBehavior.INTERRUPT and api.names_open_turn(s, c),
    "REJECT": lambda _s, c, _n: c.busy is BusyBehavior.REJECT,
    "means the open turn": lambda s, c, _: api.names_open_turn(s, c),
    "leaves calls open, and may": lambda s, c, _: c.allow_partial and not completes(s.calls, c),
    "queue is empty": lambda s, _c, _n: not s.queue,
    "only labels": lambda _s, c, _n: api.only_labels(c),
    "no live lease": lambda s, _c, now: s.lease is None or s.lease.expires_at <= now,
    "lease expired": lambda s, _c, now: s.lease is not None and s.lease.expires_at <= now,
    "lease expired, too often": lambda s, _c, now: (
        s.lease is not None and s.lease.expires_at <= now and s.rescues >= RESCUES_MAX
    ),
    "past the deadline": lambda s, _c, now: s.action is not None and s.action.deadline <= now,
}

_W, _P, _R = Status.WAITING, Status.PENDING, Status.RUNNING
_I, _A, _E = Status.INTERRUPTING, Status.REQUIRES_ACTION, Status.ERROR
_ANY = tuple(Status)
_SAME: tuple[Status, ...] = ()

CREATED = (_W, _P)
"""Where Create leads: the only command without a chat; pending when it has a message."""

TABLE: tuple[Row, ...] = (
    # Messages
    Row(SendMessage, (_W, _E), "", (_P,), api.send_now,
        "into the history; behind a queue that an error left, whose head begins instead"),
    Row(SendMessage, (_P, _R, _I, _A), "REJECT", _SAME, api.send_refused,
        "refused: CHAT_BUSY"),
    Row(SendMessage, (_P, _R, _I, _A), "QUEUE", _SAME, api.send_later,
        "append to the queue (also INTERRUPT that means another turn)"),
    Row(SendMessage, (_R, _I), "INTERRUPT", (_I,), api.send_and_interrupt,
        "append to the queue, ask the worker to stop"),
    Row(SendMessage, (_P, _A), "INTERRUPT", (_P,), api.send_and_replace,
        "end the turn, append to the queue, begin the head's turn"),
    Row(EditMessage, _ANY, "", (_P,), api.edit,
        "remove that message and all behind it, clear the queue, cut the work, begin anew"),
    # Interrupt and retry
    Row(Interrupt, (_R,), "means the open turn", (_I,), api.interrupt_running,
        "ask the worker to stop"),
    Row(Interrupt, (_P, _A), "means the open turn", (_W, _P), api.interrupt_idle,
        "end the turn; begin that of the queue's head"),
    Row(Interrupt, _ANY, "", _SAME, api.interrupt_nothing,
        "success, nothing written"),
    Row(RetryTurn, (_E,), "", (_P,), api.retry,
        "the same turn again, no new message"),
    # Client tools
    Row(SubmitToolResults, (_A,), "leaves calls open, and may", _SAME, api.submit_some,
        "keep the results, wait for the rest"),
    Row(SubmitToolResults, (_A,), "", (_P,), api.submit_all,
        "exact match; commit in call order; the first writer wins, also past the deadline"),
    # Queue
    Row(DeleteQueued, _ANY, "", _SAME, queue.delete_queued,
        "take it out of the queue; absent is success"),
    Row(ReorderQueue, _ANY, "", _SAME, queue.reorder,
        "put the queue in this order; names exactly its messages"),
    Row(PromoteQueued, (_P, _A, _E), "", (_P,), queue.promote_now,
        "end an open turn, begin that message's turn"),
    Row(PromoteQueued, (_R, _I), "", (_I,), queue.promote_next,
        "to the head of the queue, ask the worker to stop"),
    # Context
    Row(RequestCompaction, (_W, _E), "", (_P,), api.request_compaction,
        "one turn that compacts; refused when there is nothing to compact"),
    Row(ClearContext, (_W,), "", _SAME, api.clear_context,
        "the context begins anew, without a summary"),
    Row(ClearContext, (_E,), "queue is empty", (_W,), api.clear_context,
        "the context begins anew, without a summary; the failed turn is given up"),
    # Fields
    Row(UpdateChat, _ANY, "only labels", _SAME, api.update,
        "change labels", archived=True),
    Row(UpdateChat, _ANY, "", _SAME, api.update,
        "change fields"),
    Row(SetTitle, _ANY, "", _SAME, api.set_title,
        "write a title"),
    Row(SetArchived, (_W, _E), "", _SAME, api.set_archived,
        "archive or unarchive", archived=True),
    Row(DeleteChat, _ANY, "", (_W,), api.delete,
        "delete softly; an open turn ends; streams end", archived=True),
    # Leases
    Row(Acquire, (_P,), "", (_R,), worker.acquire,
        "a new lease with a new epoch"),
    Row(Acquire, (_I,), "no live lease", _SAME, worker.acquire,
        "a new lease with a new epoch"),
    Row(Release, (_R,), "", (_P,), worker.release,
        "a leaving worker gives the chat back; no error is counted"),
    Row(Rescue, (_R, _I), "lease expired, too often", (_E,), worker.rescue_no_more,
        "the sixth in a row without progress: the turn fails (worker_lost)"),
    Row(Rescue, (_R,), "lease expired", (_P,), worker.rescue,
        "give the chat back; counted"),
    Row(Rescue, (_I,), "lease expired", _SAME, worker.rescue,
        "give the chat back, still to be stopped; counted"),
    Row(ExpireAction, (_A,), "past the deadline", (_P,), worker.expire_action,
        "answer what the client has not, go on"),
    # Steps
    Row(StartAttempt, (_R,), "", _SAME, worker.start_attempt,
        "one model call, compaction or batch of tools begins"),
    Row(ScheduleRetry, (_R,), "", _SAME, worker.schedule_retry,
        "the attempt failed; another one later"),
    Row(CommitAnswer, (_R,), "", _SAME, worker.commit_answer,
        "the answer, before its tools run"),
    Row(CommitResults, (_R,), "", _SAME, worker.commit_results,
        "the results of a batch, in call order"),
    Row(CommitCompaction, (_R,), "", _SAME, worker.commit_compaction,
        "the summary; the context begins with it"),
    Row(RequireAction, (_R,), "", (_A,), worker.require_action,
        "hand the open calls to the client; a deadline is set"),
    Row(FinishTurn, (_R,), "", (_W, _P), worker.finish_turn,
        "the turn is over; begin that of the queue's head"),
    Row(FinishInterruption, (_I,), "", (_W, _P), worker.finish_interruption,
        "save the partial step; begin the turn of the queue's head"),
    Row(Fail, (_R,), "", (_E,), worker.fail,
        "the turn failed past retrying; the queue stays"),
)  # fmt: skip

WITHOUT_LEASE: frozenset[type[Command]] = frozenset({Acquire, Rescue, ExpireAction})
"""Workers' commands that need no lease: they name the epoch that they saw."""

REFUSALS: Mapping[type[Command], type[WrongStatus]] = {SubmitToolResults: NotWaitingForAction}
"""Refusals with a reason of their own where rule 1 applies."""


def _index() -> dict[type[Any], dict[Status, tuple[tuple[Guard | None, Row], ...]]]:
    found: dict[type[Any], dict[Status, tuple[tuple[Guard | None, Row], ...]]] = {}
    for row in TABLE:
        by_status = found.setdefault(row.command, {})
        guard = GUARDS[row.guard] if row.guard else None
        for status in row.statuses:
            by_status[status] = (*by_status.get(status, ()), (guard, row))
    return found


_ROWS = _index()


def advance(state: ChatState | None, command: Command, now: Instant) -> Transition:
    """Return what the command does to the chat; pure.

    `now` is store time. `state.calls` must carry their journal when the command closes calls.
    Raises ChatNotFound (none, or deleted), WrongStatus and its kinds, LeaseLost, and what a
    rule refuses: InvalidRequest, MessageNotFound, EtagMismatch. Nothing has changed then.
    """
    kind = type(command)
    if state is None or kind is Create or state.deleted:
        return _without_chat(state, command, now)
    if isinstance(command, WorkerCommand):
        _check_lease(state, command, kind)
    for guard, row in _ROWS[kind].get(state.status, ()):
        if (guard is None or guard(state, command, now)) and (row.archived or not state.archived):
            transition = row.rule(state, command, now)
            assert transition.state.status in (row.targets or (state.status,)), row.what
            return transition
    raise _refusal(state, kind)


def _without_chat(state: ChatState | None, command: Command, now: Instant) -> Transition:
    if isinstance(command, Create):
        if state is None:
            return api.create(command, now)
        raise WrongStatus(state.status, f"the chat {state.id!r} exists already")
    raise ChatNotFound("" if state is None else state.id)


def _check_lease(state: ChatState, command: WorkerCommand, kind: type[Command]) -> None:
    """Rule 4. A command without a lease races too: the epoch that it saw must be the newest."""
    if kind in WITHOUT_LEASE:
        held = command.epoch == state.epoch
    else:
        lease = state.lease
        held = (
            lease is not None
            and lease.epoch == command.epoch
            and lease.worker_id == command.worker_id
        )
    if not held:
        raise LeaseLost(f"epoch {command.epoch} of {command.worker_id!r} is not the newest lease")


def _refusal(state: ChatState, kind: type[Command]) -> WrongStatus:
    if state.archived and issubclass(kind, ApiCommand):
        return ChatArchived(state.status, "the chat is archived; unarchive it first")
    refusal = REFUSALS.get(kind, WrongStatus)
    return refusal(
        state.status, f"{kind.__name__} is not possible while the chat is {state.status}"
    )
