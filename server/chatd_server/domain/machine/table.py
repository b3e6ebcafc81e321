"""The table of the machine: which command is possible in which status, and where it leads.

Of the rows of a command and a status the first whose guard holds counts. The row decides the status
of the new state; its rule decides what else is written.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from chatd_server.domain.chat import Status
from chatd_server.domain.command import (
    Acquire,
    ApiCommand,
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
    FailCompaction,
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
    TellOfChildren,
    UpdateChat,
    WorkerCommand,
)
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.machine.change import Change
from chatd_server.domain.machine.rules import (
    chats,
    context,
    leases,
    messages,
    queue,
    steps,
    tools,
    turns,
)
from chatd_server.domain.refusal import NotWaitingForAction, WrongStatus
from chatd_server.domain.transition import Transition

# A rule takes the command of its row, which a table cannot say in types.
Rule: TypeAlias = Callable[[Change, Any], Transition]


class Row(msgspec.Struct, frozen=True):
    """One row: in one of these statuses, and if the guard holds, this command is possible."""

    command: type[ApiCommand | WorkerCommand]
    #: None: the chat does not exist yet.
    statuses: tuple[Status | None, ...]
    #: Name in GUARDS; empty means always.
    guard: str
    #: The status of the new state; None means that it stays.
    target: Status | None
    rule: Rule
    what: str
    #: Whether it is possible on an archived chat too (rule 6).
    archived: bool = False


_W, _P, _R = Status.WAITING, Status.PENDING, Status.RUNNING
_I, _A, _E = Status.INTERRUPTING, Status.REQUIRES_ACTION, Status.ERROR
_ANY = tuple(Status)
_NONE = (None,)
_SAME = None

TABLE: tuple[Row, ...] = (
    # Chats
    Row(Create, _NONE, "no message", _W, chats.create,
        "make the chat"),
    Row(Create, _NONE, "", _P, chats.create_and_begin,
        "make the chat; begin the turn of the message"),
    Row(UpdateChat, _ANY, "no field but labels", _SAME, chats.update,
        "change labels", archived=True),
    Row(UpdateChat, _ANY, "", _SAME, chats.update,
        "change fields"),
    Row(SetTitle, _ANY, "", _SAME, chats.set_title,
        "write a title"),
    Row(SetArchived, (_W, _E), "", _SAME, chats.set_archived,
        "archive or unarchive", archived=True),
    Row(DeleteChat, _ANY, "", _W, chats.delete,
        "delete softly; an open turn ends; streams end", archived=True),
    Row(TellOfChildren, _ANY, "", _SAME, chats.tell_of_children,
        "log what happened to children", archived=True),
    # Messages
    Row(SendMessage, (_W, _E), "", _P, messages.send_now,
        "append to the queue (only an error leaves one); begin the turn of its head"),
    Row(SendMessage, (_P, _R, _I, _A), "REJECT", _SAME, messages.send_refused,
        "refused: CHAT_BUSY"),
    Row(SendMessage, (_P, _R, _I, _A), "QUEUE, or INTERRUPT of another turn", _SAME,
        messages.send_later,
        "append to the queue"),
    Row(SendMessage, (_R, _I), "INTERRUPT of no other turn", _I, messages.send_and_interrupt,
        "append to the queue; ask the worker to stop"),
    Row(SendMessage, (_P, _A), "INTERRUPT of no other turn", _P, messages.send_now,
        "append to the queue; end the turn, begin that of the queue's head"),
    Row(EditMessage, _ANY, "", _P, messages.edit,
        "remove that message and all after it, empty the queue; begin the turn of the new message"),
    # Turns
    Row(Interrupt, (_R,), "names no other turn", _I, turns.ask_to_stop,
        "ask the worker to stop"),
    Row(Interrupt, (_P, _A), "names no other turn, queue is empty", _W, turns.interrupt,
        "end the turn"),
    Row(Interrupt, (_P, _A), "names no other turn", _P, turns.interrupt,
        "end the turn; begin that of the queue's head"),
    Row(Interrupt, (_I,), "names no other turn", _SAME, turns.already_stopping,
        "success, nothing written"),
    Row(Interrupt, _ANY, "", _SAME, turns.nothing_to_interrupt,
        "success, nothing written"),
    Row(RetryTurn, (_E,), "", _P, turns.retry,
        "the same turn again, no new message"),
    Row(FinishTurn, (_R,), "queue is empty", _W, turns.finish,
        "the turn is over"),
    Row(FinishTurn, (_R,), "", _P, turns.finish,
        "the turn is over; begin that of the queue's head"),
    Row(FinishInterruption, (_I,), "queue is empty", _W, turns.finish_interruption,
        "save the partial step; the turn is over"),
    Row(FinishInterruption, (_I,), "", _P, turns.finish_interruption,
        "save the partial step; the turn is over; begin that of the queue's head"),
    Row(Fail, (_R,), "", _E, turns.fail,
        "the turn fails; the queue stays"),
    # Queue
    Row(DeleteQueued, _ANY, "", _SAME, queue.delete_queued,
        "take it out of the queue; absent is success"),
    Row(ReorderQueue, _ANY, "", _SAME, queue.reorder,
        "put the queue in this order; names exactly its messages"),
    Row(PromoteQueued, (_P, _A, _E), "", _P, queue.promote_now,
        "end an open turn; begin that of this message"),
    Row(PromoteQueued, (_R, _I), "", _I, queue.promote_next,
        "move it to the head of the queue; ask the worker to stop"),
    # Context
    Row(RequestCompaction, (_W, _E), "", _P, context.request_compaction,
        "one turn that compacts; refused when there is nothing to compact"),
    Row(ClearContext, (_W,), "", _SAME, context.clear,
        "the context begins after the newest message, without a summary"),
    Row(ClearContext, (_E,), "queue is empty", _W, context.clear,
        "the same; the failed turn is given up"),
    Row(CommitCompaction, (_R,), "", _SAME, context.commit_compaction,
        "commit the summary and the unanswered messages; the context begins with it"),
    Row(FailCompaction, (_R,), "", _SAME, context.fail_compaction,
        "the compaction failed and counts; the context stays"),
    # Tools of the client
    Row(RequireAction, (_R,), "", _A, tools.require_action,
        "ask the client for the results of the open calls, until a deadline"),
    Row(SubmitToolResults, (_A,), "allow_partial, and calls stay open", _SAME, tools.submit_some,
        "keep the results, wait for the rest"),
    Row(SubmitToolResults, (_A,), "", _P, tools.submit_all,
        "exact match; commit in call order; the first writer wins, also past the deadline"),
    Row(ExpireAction, (_A,), "deadline reached", _P, tools.expire_action,
        "answer what the client has not, go on"),
    # Leases
    Row(Acquire, (_P,), "", _R, leases.acquire,
        "a new lease with a new epoch"),
    Row(Acquire, (_I,), "no lease, or an expired one", _SAME, leases.acquire,
        "a new lease with a new epoch"),
    Row(Release, (_R,), "", _P, leases.release,
        "a leaving worker gives the chat back; no error is counted"),
    Row(Rescue, (_R, _I), f"lease expired, {RESCUES_MAX} rescues in a row", _E,
        leases.rescue_no_more,
        "another one without progress: the turn fails (worker_lost)"),
    Row(Rescue, (_R,), "lease expired", _P, leases.rescue,
        "give the chat back; counted"),
    Row(Rescue, (_I,), "lease expired", _SAME, leases.rescue,
        "give the chat back, still to be stopped; counted"),
    # Steps
    Row(StartAttempt, (_R,), "", _SAME, steps.start_attempt,
        "one model call, compaction or batch of tools begins"),
    Row(ScheduleRetry, (_R,), "", _SAME, steps.schedule_retry,
        "the attempt failed; another one later"),
    Row(CommitAnswer, (_R,), "", _SAME, steps.commit_answer,
        "commit the answer, before its tools run"),
    Row(CommitResults, (_R,), "", _SAME, steps.commit_results,
        "commit the results of a batch, in call order"),
)  # fmt: skip

REFUSALS: Mapping[type[Command], type[WrongStatus]] = {SubmitToolResults: NotWaitingForAction}
"""Refusals with a reason of their own where rule 1 applies."""
