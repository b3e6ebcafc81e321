"""The execution state of a chat: everything that decides what may happen next.

It changes only through `machine.advance`. A store keeps it; a worker that holds the lease has it in
memory too.
"""

from enum import StrEnum

from chatd_server.domain.context import ContextUse
from chatd_server.domain.failure import ChatError
from chatd_server.domain.ids import (
    AttemptId,
    ChatId,
    Instant,
    MessageId,
    OwnerId,
    ToolCallId,
    TurnId,
    WorkerId,
)
from chatd_server.domain.limits import ACTION_TIMEOUT_SECONDS
from chatd_server.domain.message import Executor, Part, ToolErrorKind, ToolResult, Usage, Value


class Status(StrEnum):
    """What a chat does now."""

    # Enum's own is a Python function, and each transition looks up its status.
    __hash__ = str.__hash__

    #: Idle; never has a queue.
    WAITING = "waiting"
    #: Work to do, and no worker holds it.
    PENDING = "pending"
    #: A worker holds it.
    RUNNING = "running"
    #: The worker must save the partial step and stop.
    INTERRUPTING = "interrupting"
    #: Client tools are wanted.
    REQUIRES_ACTION = "requires_action"
    #: Stopped; `last_error` says why; may have a queue.
    ERROR = "error"


class StopReason(StrEnum):
    """Why a turn ended; mirrors `chatd.v1.StopReason`."""

    END_TURN = "end_turn"
    MAX_TOKENS = "max_tokens"
    MAX_STEPS = "max_steps"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    INTERRUPTED = "interrupted"
    REPLACED = "replaced"
    ERROR = "error"
    COMPACTED = "compacted"
    CONTEXT_EXCEEDED = "context_exceeded"


class Effort(StrEnum):
    """How much a model may think."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class TurnOptions(Value, frozen=True, omit_defaults=True):
    """Choices for one turn; None and empty take the chat's, then the server's default."""

    model: str = ""
    effort: Effort | None = None
    max_steps: int | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None


class AttemptKind(StrEnum):
    """What an attempt does."""

    MODEL = "model"
    TOOLS = "tools"
    COMPACTION = "compaction"


class Attempt(Value, frozen=True, omit_defaults=True):
    """One model call, or one batch of tools."""

    id: AttemptId
    kind: AttemptKind
    #: From 1; rises with each retry of the same step.
    number: int
    #: Head sequence when it began: no delta goes out before everything up to it.
    base_sequence: int


class Turn(Value, frozen=True, omit_defaults=True):
    """The record of the open turn, or of the failed one; changed only by `advance`."""

    id: TurnId
    #: Position of the user's message that began it: the tail begins there.
    first_position: int
    options: TurnOptions = TurnOptions()
    #: Answers committed in this turn.
    steps: int = 0
    #: Compactions of this turn, failed ones included.
    compactions: int = 0
    attempt: Attempt | None = None
    #: Number of failed attempts of the step in progress.
    failed_attempts: int = 0
    #: When the next attempt may begin; None means now.
    next_attempt_at: Instant | None = None
    #: A tool that ends the turn was run.
    stop_after: bool = False
    #: A client asked for a compaction, and for nothing else.
    compaction_requested: bool = False
    #: A compaction failed, and nothing was committed since.
    compaction_failed: bool = False

    def after_commit(
        self, *, steps: int = 0, compactions: int = 0, stop_after: bool = False
    ) -> "Turn":
        """Return the turn after a commit: no attempt is open, and none has failed since."""
        return Turn(
            id=self.id,
            first_position=self.first_position,
            options=self.options,
            steps=self.steps + steps,
            compactions=self.compactions + compactions,
            stop_after=self.stop_after or stop_after,
            compaction_requested=self.compaction_requested,
        )


class Lease(Value, frozen=True, omit_defaults=True):
    """The right of one worker to run a chat until a time; the epoch fences all earlier workers."""

    worker_id: WorkerId
    epoch: int
    expires_at: Instant


class OpenCall(Value, frozen=True, omit_defaults=True):
    """A tool call of ours or of the client's without a committed result, with its journal."""

    id: ToolCallId
    name: str
    executor: Executor
    created_at: Instant
    arguments: str = ""
    #: Journal: when it was started; None when it was not. Filled when the state is loaded.
    started_at: Instant | None = None
    #: Journal: its recorded outcome. A client's result kept by allow_partial stands here too.
    outcome: ToolResult | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the client still owes the result."""
        return self.executor is Executor.CLIENT and self.outcome is None

    def error(self, kind: ToolErrorKind, output: str, at: Instant) -> ToolResult:
        """Return a result that tells the model why there is no other one."""
        return ToolResult(
            call_id=self.id,
            name=self.name,
            output=output,
            executor=self.executor,
            created_at=at,
            error=kind,
        )


class Action(Value, frozen=True, omit_defaults=True):
    """What a chat in `requires_action` waits for: the open calls of executor CLIENT."""

    turn_id: TurnId
    deadline: Instant
    #: Sequence of the event that asked.
    sequence: int


class Queued(Value, frozen=True, omit_defaults=True):
    """A message that waits for its turn."""

    id: MessageId
    parts: tuple[Part, ...]
    created_at: Instant
    options: TurnOptions = TurnOptions()


class ClientTool(Value, frozen=True, omit_defaults=True):
    """A tool that the client executes."""

    name: str
    description: str = ""
    input_schema: str = ""


class ChatConfig(Value, frozen=True, omit_defaults=True):
    """What the owner chose; the etag covers exactly this."""

    title: str = ""
    model: str = ""
    system_prompt: str = ""
    labels: dict[str, str] = {}  # noqa: RUF012  msgspec makes a new one for each struct
    tools: tuple[ClientTool, ...] = ()
    action_timeout_seconds: float = ACTION_TIMEOUT_SECONDS
    #: Rises with each change.
    version: int = 1


class ForkedFrom(Value, frozen=True, omit_defaults=True):
    """Where the history of a fork comes from."""

    chat_id: ChatId
    #: The last message that was copied, by its id in that chat; empty if it had none.
    message_id: MessageId = MessageId("")


class ChatState(Value, frozen=True, omit_defaults=True):
    """One chat, as `advance` sees it."""

    id: ChatId
    owner_id: OwnerId
    root_id: ChatId
    created_at: Instant
    updated_at: Instant
    parent_id: ChatId | None = None
    #: The parent's tool call that made this child.
    parent_call_id: ToolCallId | None = None
    #: +1 for each committed transition; the first is 1.
    revision: int = 0
    #: Sequence of the newest durable event.
    head_sequence: int = 0
    #: Sequence of the oldest durable event that the log keeps; moved by retention only.
    oldest_sequence: int = 1
    #: Position of the next message.
    next_position: int = 1
    #: Position at which the model's context begins.
    boundary_position: int = 1
    status: Status = Status.WAITING
    archived: bool = False
    deleted: bool = False
    lease: Lease | None = None
    #: Epoch of the newest lease ever granted.
    epoch: int = 0
    #: Journal writes so far; a transition that closes calls compares it.
    journal: int = 0
    #: Rescues in a row without progress.
    rescues: int = 0
    turn: Turn | None = None
    #: Why the last turn ended; None while one is open.
    stop_reason: StopReason | None = None
    last_error: ChatError | None = None
    calls: tuple[OpenCall, ...] = ()
    action: Action | None = None
    queue: tuple[Queued, ...] = ()
    #: None when it is not known: after an edit, until the next answer.
    context: ContextUse | None = ContextUse()
    usage_total: Usage = Usage()
    config: ChatConfig = ChatConfig()
    #: Sequence of the newest event that says that messages were removed; 0 when none were.
    truncated_at: int = 0
    forked_from: ForkedFrom | None = None

    @property
    def open_turn_id(self) -> str:
        """The id of the open turn; empty when none is open (a failed one is not)."""
        return self.turn.id if self.turn is not None and self.stop_reason is None else ""
