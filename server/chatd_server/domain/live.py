"""What a stream sends besides durable events: pieces of the open attempt; and how it ends.

A piece is a slice of an attempt's canonical string (see `hub.overlay`); its offsets are bytes
of that string, the same on any replica, however pieces were merged.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from chatd_server.domain.event import Cursor
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.message import CompactionSource, Executor, Part, ToolResult


class PieceKind(StrEnum):
    """What a piece shows a slice of."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    #: A tool call: its `CallHead` and then its arguments.
    CALL = "call"
    #: A whole part that came at once.
    PART = "part"
    TOOL_STARTED = "tool_started"
    TOOL_FINISHED = "tool_finished"
    COMPACTION_STARTED = "compaction_started"


class CallHead(msgspec.Struct, frozen=True):
    """A tool call without its arguments."""

    id: ToolCallId
    name: str
    executor: Executor


class CompactionStart(msgspec.Struct, frozen=True):
    """A compaction that began."""

    source: CompactionSource


PieceValue: TypeAlias = CallHead | Part | ToolResult | CompactionStart
"""What an indivisible piece shows."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One slice of an attempt: bytes `start` up to `end` of its canonical string."""

    #: Index of the part in the message that the attempt will commit; 0 for tools.
    part: int
    kind: PieceKind
    start: int
    end: int
    #: Text to append; empty for indivisible pieces.
    text: str = ""
    value: PieceValue | None = None


class Until(StrEnum):
    """When a stream ends by itself."""

    FOREVER = "forever"
    #: After caught_up, as soon as the status is WAITING or ERROR.
    SETTLED = "settled"
    #: The same, and also at REQUIRES_ACTION.
    ACTION_OR_SETTLED = "action_or_settled"


class StreamEndReason(StrEnum):
    """Why a stream ended on purpose; mirrors `chatd.v1.StreamEndReason`."""

    UNTIL_REACHED = "until_reached"
    CHAT_DELETED = "chat_deleted"
    DRAINING = "draining"
    MAX_DURATION = "max_duration"


class Follow(msgspec.Struct, frozen=True):
    """What a subscriber asked for. Without `resume_from` a snapshot comes first."""

    resume_from: Cursor | None = None
    until: Until = Until.FOREVER
    deltas: bool = True
    #: Whether a snapshot has the messages for the model alone.
    model_messages: bool = True
    #: Pause between heartbeats of a stream with nothing else to send; None: the server's.
    heartbeat_seconds: float | None = None
