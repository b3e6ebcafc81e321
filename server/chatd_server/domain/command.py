"""Every command that may change a chat: data. The base class says who sends it.

From which status a command is possible, and what it does, says the table in `machine.table`.
"""

from enum import StrEnum
from typing import TypeAlias

from chatd_server.domain.chat import (
    AttemptKind,
    ChatConfig,
    ClientTool,
    ForkedFrom,
    StopReason,
    TurnOptions,
)
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.event import SubagentChanged
from chatd_server.domain.failure import ChatError
from chatd_server.domain.ids import (
    AttemptId,
    ChatId,
    MessageId,
    OwnerId,
    ToolCallId,
    TurnId,
    WorkerId,
)
from chatd_server.domain.message import (
    CompactionSource,
    FinishReason,
    Message,
    Part,
    ToolResult,
    Usage,
    Value,
)


class BusyBehavior(StrEnum):
    """What SendMessage does when the chat is busy."""

    QUEUE = "queue"
    INTERRUPT = "interrupt"
    REJECT = "reject"


class ApiCommand(Value, frozen=True, kw_only=True):
    """A command of a client.

    `command_id` is never used again: after a lost connection it tells whether the commit was made.
    """

    command_id: str


class WorkerCommand(Value, frozen=True, kw_only=True):
    """A command of the worker that holds the lease; a stale epoch is LeaseLost."""

    command_id: str
    worker_id: WorkerId
    epoch: int


# --- clients -------------------------------------------------------------------------------


class History(Value, frozen=True):
    """What a fork begins with: messages of another chat, in order."""

    origin: ForkedFrom
    messages: tuple[Message, ...]
    #: Index of the message with which the model's context begins; their number when it begins
    #: after them.
    context_from: int = 0


class Create(ApiCommand, frozen=True, kw_only=True):
    """Make a chat, with or without a first message, or with the history of another one."""

    chat_id: ChatId
    owner_id: OwnerId
    config: ChatConfig
    parts: tuple[Part, ...] = ()
    options: TurnOptions = TurnOptions()
    parent_id: ChatId | None = None
    parent_call_id: ToolCallId | None = None
    root_id: ChatId | None = None
    #: Only without a first message.
    history: History | None = None


class SendMessage(ApiCommand, frozen=True, kw_only=True):
    """Start a turn, or queue when one is open."""

    parts: tuple[Part, ...]
    options: TurnOptions = TurnOptions()
    busy: BusyBehavior = BusyBehavior.QUEUE
    #: With INTERRUPT: cut only this turn; None means the open one.
    expected_turn_id: TurnId | None = None


class EditMessage(ApiCommand, frozen=True, kw_only=True):
    """Replace a user's message and remove all after it.

    `position` is that of the message; the service looked it up and checked the role.
    """

    position: int
    parts: tuple[Part, ...]
    options: TurnOptions = TurnOptions()
    #: Head of the log before the look-up; None when it cannot have changed since.
    seen_sequence: int | None = None


class Interrupt(ApiCommand, frozen=True, kw_only=True):
    """Stop the open turn and keep what it has."""

    expected_turn_id: TurnId | None = None


class SubmittedResult(Value, frozen=True):
    """The client's answer to one call."""

    call_id: ToolCallId
    output: str
    is_json: bool
    is_error: bool = False


class SubmitToolResults(ApiCommand, frozen=True, kw_only=True):
    """Hand in results of client tools."""

    results: tuple[SubmittedResult, ...]
    allow_partial: bool = False


class DeleteQueued(ApiCommand, frozen=True, kw_only=True):
    """Remove a message from the queue."""

    message_id: MessageId


class ReorderQueue(ApiCommand, frozen=True, kw_only=True):
    """Put the queue in this order; names exactly the queued messages."""

    message_ids: tuple[MessageId, ...]


class PromoteQueued(ApiCommand, frozen=True, kw_only=True):
    """Move a queued message to the head and start it as soon as possible."""

    message_id: MessageId


class RetryTurn(ApiCommand, frozen=True, kw_only=True):
    """Try the failed turn again, without a new message."""


class RequestCompaction(ApiCommand, frozen=True, kw_only=True):
    """Summarise the context."""


class ClearContext(ApiCommand, frozen=True, kw_only=True):
    """Let the context begin after the newest message, without a summary."""


class UpdateChat(ApiCommand, frozen=True, kw_only=True):
    """Change fields; None means unchanged. `etag_version` None means any."""

    title: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    labels: dict[str, str] | None = None
    tools: tuple[ClientTool, ...] | None = None
    action_timeout_seconds: float | None = None
    etag_version: int | None = None


class SetTitle(ApiCommand, frozen=True, kw_only=True):
    """Write a title: made by a worker, or asked for by RegenerateTitle."""

    title: str
    #: Only if the chat has this title; None: whatever it has.
    replaces: str | None = None


class SetArchived(ApiCommand, frozen=True, kw_only=True):
    archived: bool


class DeleteChat(ApiCommand, frozen=True, kw_only=True):
    """Delete the chat, softly."""


class TellOfChildren(ApiCommand, frozen=True, kw_only=True):
    """Log what happened to children. It follows from what a client or a worker sent to them: see
    `domain.family`.
    """

    news: tuple[SubagentChanged, ...]


# --- workers -------------------------------------------------------------------------------


class Acquire(WorkerCommand, frozen=True, kw_only=True):
    """Take the lease. `epoch` is the one that the worker saw; the new one is one more."""

    lease_seconds: float


class StartAttempt(WorkerCommand, frozen=True, kw_only=True):
    """Begin a model call or a batch of tools."""

    attempt_id: AttemptId
    kind: AttemptKind


class ScheduleRetry(WorkerCommand, frozen=True, kw_only=True):
    """The attempt failed; try again after a delay."""

    attempt_id: AttemptId
    delay_seconds: float
    error: ChatError


class CommitAnswer(WorkerCommand, frozen=True, kw_only=True):
    """The model's answer, before its tools run. Each ToolCall part carries its executor."""

    attempt_id: AttemptId
    parts: tuple[Part, ...]
    finish_reason: FinishReason
    model: str
    usage: Usage = Usage()
    #: The vendor's id of the answer; empty when it gave none.
    response_id: str = ""
    #: Tools that had to be called alone and were not: no call of this answer runs.
    crowded: tuple[str, ...] = ()


class CommitResults(WorkerCommand, frozen=True, kw_only=True):
    """Results of the open calls of executor SERVER and NONE: all of them."""

    attempt_id: AttemptId
    results: tuple[ToolResult, ...]
    #: A tool that ends the turn was run without an error.
    stop_after: bool = False


class CommitCompaction(WorkerCommand, frozen=True, kw_only=True):
    """The summary. The context begins with it; the messages of the user that nobody has answered
    yet follow it.
    """

    attempt_id: AttemptId
    #: An introduction for the model, then the summary.
    parts: tuple[Part, ...]
    source: CompactionSource
    #: How full the context was; None when that is unknown.
    level: ContextLevel | None = None
    #: The parts of each unanswered message, in order.
    unanswered: tuple[tuple[Part, ...], ...] = ()
    model: str = ""
    #: What the summary cost.
    usage: Usage = Usage()


class FailCompaction(WorkerCommand, frozen=True, kw_only=True):
    """The compaction gave no summary; the context stays as it is."""

    attempt_id: AttemptId
    source: CompactionSource
    error: ChatError
    level: ContextLevel | None = None
    #: What the call cost all the same.
    usage: Usage = Usage()


class RequireAction(WorkerCommand, frozen=True, kw_only=True):
    """Hand the open client calls to the client; the deadline comes from the chat's config."""


class FinishTurn(WorkerCommand, frozen=True, kw_only=True):
    """The turn is over."""

    turn_id: TurnId
    stop_reason: StopReason


class FinishInterruption(WorkerCommand, frozen=True, kw_only=True):
    """Save the partial step of the open attempt, if there is one, and stop.

    `parts` is the partial answer (no answer committed yet); `results` are outcomes of tools
    that the journal does not have.
    """

    attempt_id: AttemptId = AttemptId("")
    parts: tuple[Part, ...] = ()
    results: tuple[ToolResult, ...] = ()
    model: str = ""
    usage: Usage = Usage()


class Fail(WorkerCommand, frozen=True, kw_only=True):
    """The turn failed: it is not tried again."""

    error: ChatError


class Release(WorkerCommand, frozen=True, kw_only=True):
    """A leaving worker gives the chat back; no error is counted.

    The journal has the outcomes of its tools already.
    """


class Rescue(WorkerCommand, frozen=True, kw_only=True):
    """Any worker: the lease has expired. `epoch` is the expired one."""


class ExpireAction(WorkerCommand, frozen=True, kw_only=True):
    """Any worker: the deadline of the pending action has passed."""


Command: TypeAlias = (
    Create
    | SendMessage
    | EditMessage
    | Interrupt
    | SubmitToolResults
    | DeleteQueued
    | ReorderQueue
    | PromoteQueued
    | RetryTurn
    | RequestCompaction
    | ClearContext
    | UpdateChat
    | SetTitle
    | SetArchived
    | DeleteChat
    | TellOfChildren
    | Acquire
    | StartAttempt
    | ScheduleRetry
    | CommitAnswer
    | CommitResults
    | CommitCompaction
    | FailCompaction
    | RequireAction
    | FinishTurn
    | FinishInterruption
    | Fail
    | Release
    | Rescue
    | ExpireAction
)

WITHOUT_LEASE: frozenset[type[Command]] = frozenset({Acquire, Rescue, ExpireAction})
"""Workers' commands that need no lease: they name the epoch that they saw, and the clock
decides them."""
