"""The table of the machine: which command is possible in which status, and where it leads."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import (
    Acquire,
    ApiCommand,
    ClearContext,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
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
from chatd_server.domain.transition import Transition

# A rule takes the command of its row, which a table cannot say in types.
Rule: TypeAlias = Callable[[ChatState, Any, Instant], Transition]


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


_W, _P, _R = Status.WAITING, Status.PENDING, Status.RUNNING
_I, _A, _E = Status.INTERRUPTING, Status.REQUIRES_ACTION, Status.ERROR
_ANY = tuple(Status)
_SAME: tuple[Status, ...] = ()

CREATED = (_W, _P)
"""Where Create leads: the only command without a chat; pending when it has a message."""

TABLE: tuple[Row, ...] = (
    # Messages
    Row(SendMessage, (_W, _E), "", (_P,), messages.send_now,
        "into the history; behind a queue that an error left, whose head begins instead"),
    Row(SendMessage, (_P, _R, _I, _A), "REJECT", _SAME, messages.send_refused,
        "refused: CHAT_BUSY"),
    Row(SendMessage, (_P, _R, _I, _A), "QUEUE", _SAME, messages.send_later,
        "append to the queue (also INTERRUPT that means another turn)"),
    Row(SendMessage, (_R, _I), "INTERRUPT", (_I,), messages.send_and_interrupt,
        "append to the queue, ask the worker to stop"),
    Row(SendMessage, (_P, _A), "INTERRUPT", (_P,), messages.send_and_replace,
        "end the turn, append to the queue, begin the head's turn"),
    Row(EditMessage, _ANY, "", (_P,), messages.edit,
        "remove that message and all behind it, clear the queue, cut the work, begin anew"),
    # Interrupt and retry
    Row(Interrupt, (_R,), "means the open turn", (_I,), turns.interrupt_running,
        "ask the worker to stop"),
    Row(Interrupt, (_P, _A), "means the open turn", (_W, _P), turns.interrupt_idle,
        "end the turn; begin that of the queue's head"),
    Row(Interrupt, _ANY, "", _SAME, turns.interrupt_nothing,
        "success, nothing written"),
    Row(RetryTurn, (_E,), "", (_P,), turns.retry,
        "the same turn again, no new message"),
    # Client tools
    Row(SubmitToolResults, (_A,), "leaves calls open, and may", _SAME, tools.submit_some,
        "keep the results, wait for the rest"),
    Row(SubmitToolResults, (_A,), "", (_P,), tools.submit_all,
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
    Row(RequestCompaction, (_W, _E), "", (_P,), context.request_compaction,
        "one turn that compacts; refused when there is nothing to compact"),
    Row(ClearContext, (_W,), "", _SAME, context.clear_context,
        "the context begins anew, without a summary"),
    Row(ClearContext, (_E,), "queue is empty", (_W,), context.clear_context,
        "the context begins anew, without a summary; the failed turn is given up"),
    # Fields
    Row(UpdateChat, _ANY, "only labels", _SAME, chats.update,
        "change labels", archived=True),
    Row(UpdateChat, _ANY, "", _SAME, chats.update,
        "change fields"),
    Row(SetTitle, _ANY, "", _SAME, chats.set_title,
        "write a title"),
    Row(SetArchived, (_W, _E), "", _SAME, chats.set_archived,
        "archive or unarchive", archived=True),
    Row(DeleteChat, _ANY, "", (_W,), chats.delete,
        "delete softly; an open turn ends; streams end", archived=True),
    # Leases
    Row(Acquire, (_P,), "", (_R,), leases.acquire,
        "a new lease with a new epoch"),
    Row(Acquire, (_I,), "no live lease", _SAME, leases.acquire,
        "a new lease with a new epoch"),
    Row(Release, (_R,), "", (_P,), leases.release,
        "a leaving worker gives the chat back; no error is counted"),
    Row(Rescue, (_R, _I), "lease expired, too often", (_E,), leases.rescue_no_more,
        "the sixth in a row without progress: the turn fails (worker_lost)"),
    Row(Rescue, (_R,), "lease expired", (_P,), leases.rescue,
        "give the chat back; counted"),
    Row(Rescue, (_I,), "lease expired", _SAME, leases.rescue,
        "give the chat back, still to be stopped; counted"),
    Row(ExpireAction, (_A,), "past the deadline", (_P,), tools.expire_action,
        "answer what the client has not, go on"),
    # Steps
    Row(StartAttempt, (_R,), "", _SAME, steps.start_attempt,
        "one model call, compaction or batch of tools begins"),
    Row(ScheduleRetry, (_R,), "", _SAME, steps.schedule_retry,
        "the attempt failed; another one later"),
    Row(CommitAnswer, (_R,), "", _SAME, steps.commit_answer,
        "the answer, before its tools run"),
    Row(CommitResults, (_R,), "", _SAME, steps.commit_results,
        "the results of a batch, in call order"),
    Row(CommitCompaction, (_R,), "", _SAME, context.commit_compaction,
        "the summary; the context begins with it"),
    Row(RequireAction, (_R,), "", (_A,), tools.require_action,
        "hand the open calls to the client; a deadline is set"),
    Row(FinishTurn, (_R,), "", (_W, _P), turns.finish_turn,
        "the turn is over; begin that of the queue's head"),
    Row(FinishInterruption, (_I,), "", (_W, _P), turns.finish_interruption,
        "save the partial step; begin the turn of the queue's head"),
    Row(Fail, (_R,), "", (_E,), turns.fail,
        "the turn failed past retrying; the queue stays"),
)  # fmt: skip
