"""Everything that chatd reports, as typed facts: ids and counts, never text of a conversation.

A fact's tag is the name of its span; its base class sets its level. Names, keys and levels are part
of the tested contract: add facts, never rename one.
"""

from typing import ClassVar, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from chatd_server.domain.chat import Status, StopReason
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.ids import AttemptId, ChatId, ToolCallId, TurnId
from chatd_server.domain.message import CompactionSource, FinishReason, ToolErrorKind

Level: TypeAlias = Literal["debug", "info", "warning"]


class Fact(msgspec.Struct, frozen=True, gc=False, tag_field="event"):
    """A field that is UNSET does not appear."""

    level: ClassVar[Level] = "info"


class Step(Fact, frozen=True):
    """A step within a turn. Its end is one line (`turn.finished`), which is usually enough."""

    level = "debug"


class Trouble(Fact, frozen=True):
    """A failure that someone may have to look at."""

    level = "warning"


class RpcFinished(Fact, frozen=True, tag="rpc.finished"):
    rpc: str
    code: str
    reason: str | UnsetType = UNSET


class RpcFailed(Trouble, frozen=True, tag="rpc.failed"):
    rpc: str
    error_id: str
    error: str
    trace: str


class RunStarted(Step, frozen=True, tag="run.started"):
    chat: ChatId
    epoch: int


class RunFinished(Step, frozen=True, tag="run.finished"):
    chat: ChatId
    epoch: int
    status: Status


class RunFailed(Trouble, frozen=True, tag="run.failed"):
    chat: ChatId
    epoch: int
    error_id: str
    exception: str
    trace: list[str]


class LeaseLost(Trouble, frozen=True, tag="lease.lost"):
    chat: ChatId
    epoch: int


class ChatsRescued(Fact, frozen=True, tag="chats.rescued"):
    rescued: int
    expired: int


class ChatsRescuedAtStart(Fact, frozen=True, tag="chats.rescued"):
    count: int


class AttemptStarted(Step, frozen=True, tag="attempt.started"):
    chat: ChatId
    attempt: AttemptId
    number: int


class AttemptFailed(Trouble, frozen=True, tag="attempt.failed"):
    chat: ChatId
    attempt: AttemptId
    number: int
    kind: ErrorKind
    http_status: int | None


class FirstPart(Step, frozen=True, tag="attempt.first_part"):
    chat: ChatId
    attempt: AttemptId


class AnswerCommitted(Step, frozen=True, tag="answer.committed"):
    chat: ChatId
    attempt: AttemptId
    finish_reason: FinishReason
    parts: int


class CompactionStarted(Step, frozen=True, tag="compaction.started"):
    chat: ChatId
    attempt: AttemptId
    source: CompactionSource


class CompactionCommitted(Step, frozen=True, tag="compaction.committed"):
    chat: ChatId
    attempt: AttemptId
    source: CompactionSource
    tokens_before: int | None
    tokens_after: int | None


class CompactionFailed(Trouble, frozen=True, tag="compaction.failed"):
    """The turn goes on if the context has room."""

    chat: ChatId
    attempt: AttemptId
    source: CompactionSource
    kind: ErrorKind


class ToolStarted(Step, frozen=True, tag="tool.started"):
    chat: ChatId
    call: ToolCallId
    tool: str


class ToolFinished(Step, frozen=True, tag="tool.finished"):
    chat: ChatId
    call: ToolCallId
    tool: str
    error: ToolErrorKind | None


class ToolAbandoned(Trouble, frozen=True, tag="tool.abandoned"):
    chat: ChatId
    call: ToolCallId
    tool: str


class ToolHidden(Trouble, frozen=True, tag="tool.hidden"):
    chat: ChatId
    tool: str


class ResultsCommitted(Step, frozen=True, tag="results.committed"):
    chat: ChatId
    attempt: AttemptId
    results: int


class ActionRequired(Fact, frozen=True, tag="action.required"):
    chat: ChatId
    calls: int


class TurnFinished(Fact, frozen=True, tag="turn.finished"):
    chat: ChatId
    turn: TurnId
    stop_reason: StopReason
    kind: ErrorKind | UnsetType = UNSET


class StreamWasSilent(Trouble, frozen=True, tag="stream.was_silent"):
    chat: ChatId
    sequence: int


class WakeReconnected(Fact, frozen=True, tag="wake.reconnected"):
    pass


class DatabaseFailed(Trouble, frozen=True, tag="database.failed"):
    error: str
    doing: str | UnsetType = UNSET
    what: str | UnsetType = UNSET
    chat: ChatId | UnsetType = UNSET


class EventsPruned(Fact, frozen=True, tag="events.pruned"):
    count: int


class RootKeyRegistered(Fact, frozen=True, tag="root_key.registered"):
    key: str
    name: str


class RootKeyRevoked(Trouble, frozen=True, tag="root_key.revoked"):
    key: str
    advice: str


class ServerStarted(Fact, frozen=True, tag="server.started"):
    address: str
    database: str


class ServerDraining(Fact, frozen=True, tag="server.draining"):
    running: int


class ServerStopped(Fact, frozen=True, tag="server.stopped"):
    pass
