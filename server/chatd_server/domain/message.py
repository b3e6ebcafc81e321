"""Messages and their parts: immutable values, stored and replayed as they are.

`native` is a vendor's own block, kept to be sent back byte for byte to the same vendor. It
exists only here and in the database; the public contract has no field for it.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from chatd_server.domain.ids import AttemptId, Instant, MessageId, ToolCallId, TurnId

CONTENT_VERSION = 1
"""Version of stored content. A reader of version n reads all before it."""


class Role(StrEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Visibility(StrEnum):
    """Who sees a message."""

    BOTH = "both"
    USER = "user"
    MODEL = "model"


class CompactionSource(StrEnum):
    """What asked for a compaction."""

    AUTO = "auto"
    MANUAL = "manual"
    CLEAR = "clear"


class FinishReason(StrEnum):
    """Why the model ended an answer."""

    END_TURN = "end_turn"
    TOOL_CALLS = "tool_calls"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    PAUSED = "paused"
    CONTEXT_EXCEEDED = "context_exceeded"
    INTERRUPTED = "interrupted"
    OTHER = "other"


class Executor(StrEnum):
    """Who executes a tool call; recorded with the answer, never derived again from names."""

    SERVER = "server"
    CLIENT = "client"
    PROVIDER = "provider"
    NONE = "none"


class ToolErrorKind(StrEnum):
    """Why a tool result is an error."""

    FAILED = "failed"
    INTERRUPTED = "interrupted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    EXPIRED = "expired"
    ANSWER_CUT = "answer_cut"
    INVALID_CALL = "invalid_call"


class Value(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of stored values: compact, immutable, compared by content.

    Values cannot form cycles, so the garbage collector does not track them: a turn makes thousands.
    """


class Native(Value, frozen=True, omit_defaults=True):
    """A vendor's own block, internal: replayed only to the same vendor.

    `json` is the block exactly as it has to be sent back. `model` is set when only the very
    same model accepts it (signatures).
    """

    provider: str
    json: str
    model: str = ""


class Text(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="text"):
    text: str
    native: Native | None = None


class Reasoning(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="reasoning"):
    """The model's reasoning; empty text when the vendor hides it."""

    text: str
    native: Native | None = None


class ToolCall(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="tool_call"):
    """A request of the model to run a tool."""

    #: Ours, unique in the chat.
    id: ToolCallId
    name: str
    #: The vendor's JSON text, untouched; may be invalid when the answer was cut.
    arguments: str
    executor: Executor
    #: When the model had emitted it.
    created_at: Instant
    #: The vendor's id; goes back only to that vendor.
    vendor_id: str = ""
    native: Native | None = None


class ResultFile(Value, frozen=True, omit_defaults=True):
    """A file of a tool's result, for example an image, by its id."""

    file_id: str
    media_type: str
    file_name: str = ""


class ToolResult(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="tool_result"):
    """What a tool call gave."""

    call_id: ToolCallId
    name: str
    output: str
    executor: Executor
    #: When the call finished or was interrupted.
    created_at: Instant
    #: Whether `output` is JSON rather than plain text.
    is_json: bool = False
    #: Why it is an error; None when it is not.
    error: ToolErrorKind | None = None
    truncated: bool = False
    #: Next to the output; its limit does not cut them.
    files: tuple[ResultFile, ...] = ()
    native: Native | None = None


class Source(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="source"):
    """A source; stands directly after the result or the text that it came with."""

    url: str
    title: str = ""
    cited_text: str = ""


class File(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="file"):
    """A file: inline bytes, or the id of an uploaded one."""

    media_type: str
    file_name: str = ""
    data: bytes | None = None
    file_id: str = ""


class FileReference(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="file_reference"):
    """A place in a file of the client's; line 0 means the whole file."""

    file_name: str
    start_line: int = 0
    end_line: int = 0
    content: str = ""


class Refusal(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="refusal"):
    """The model's text of a refusal."""

    text: str


class ProviderNote(Value, frozen=True, omit_defaults=True, tag_field="kind", tag="provider_note"):
    """A vendor's block that chatd does not know: what a client may see of it."""

    provider: str
    block_type: str
    native: Native | None = None


Part: TypeAlias = (
    Text
    | Reasoning
    | ToolCall
    | ToolResult
    | Source
    | File
    | FileReference
    | Refusal
    | ProviderNote
)


class Usage(Value, frozen=True, omit_defaults=True):
    """Tokens; None means that the vendor did not say, which is not zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    context_tokens: int | None = None
    context_limit: int | None = None
    cost_micros: int | None = None

    def plus_aside(self, other: "Usage") -> "Usage":
        """Return the sum with a call beside the conversation: the context figures stay."""
        return self.plus(
            Usage(
                other.input_tokens,
                other.output_tokens,
                other.reasoning_tokens,
                other.cache_read_tokens,
                other.cache_write_tokens,
                self.context_tokens,
                self.context_limit,
                other.cost_micros,
            )
        )

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum of the counts; the context figures are those of `other`."""
        return Usage(
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, other.reasoning_tokens),
            cache_read_tokens=_sum(self.cache_read_tokens, other.cache_read_tokens),
            cache_write_tokens=_sum(self.cache_write_tokens, other.cache_write_tokens),
            context_tokens=other.context_tokens,
            context_limit=other.context_limit,
            cost_micros=_sum(self.cost_micros, other.cost_micros),
        )


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


class Message(Value, frozen=True, omit_defaults=True):
    """One durable message; immutable but for its soft-delete mark, which is not part of it."""

    id: MessageId
    #: Order in the chat, assigned by the transition; never reused.
    position: int
    role: Role
    parts: tuple[Part, ...]
    turn_id: TurnId
    created_at: Instant
    #: Sequence of the event that announced it.
    sequence: int
    #: The attempt that made it; empty for a user's message.
    attempt_id: AttemptId = AttemptId("")
    #: "provider/model" that wrote it: an answer, or a summary; else empty.
    model: str = ""
    #: The vendor's id of the answer; goes back only to that vendor.
    response_id: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    visibility: Visibility = Visibility.BOTH
    #: Whether a compaction wrote it: a summary, or a user's message that it kept as it was.
    compressed: bool = False
    #: What asked for the compaction whose summary this is; None for every other message.
    summary_for: CompactionSource | None = None

    @property
    def is_unanswered(self) -> bool:
        """Whether it is a user's own words, which a compaction at the end keeps as they are."""
        return self.role is Role.USER and self.summary_for is None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of an answer, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """The tool results of a message, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolResult))
