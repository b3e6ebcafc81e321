"""The plan of a message: answers, and the acts of each. Immutable values only."""

from typing import TypeAlias

import msgspec

from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import File, FinishReason, ProviderNote, Source, Usage

PROVIDER = "sandbox"


class Speak(msgspec.Struct, frozen=True):
    """Say this many words, or this text. `pace`: tokens per second; None: that of the answer."""

    kind: PieceKind
    source: int | str
    pace: float | None = None


class Pace(msgspec.Struct, frozen=True):
    """Set the pace from here on, in pieces per second; None: as fast as possible."""

    pace: float | None


class Call(msgspec.Struct, frozen=True):
    """Call a tool. The arguments are sent as written, valid or not."""

    name: str
    arguments: str


class Search(msgspec.Struct, frozen=True):
    """Let the provider search: a call, its result and two sources, all within the answer.

    With `is_later` only the call: the answer pauses, and the next one begins with the rest.
    """

    query: str
    is_later: bool = False


class Found(msgspec.Struct, frozen=True):
    """Send the result and the sources of a search that an earlier answer began.

    `vendor_id` is the id of its call, `arguments` the call's JSON.
    """

    vendor_id: str
    arguments: str


class Add(msgspec.Struct, frozen=True):
    """Add a part that arrives whole."""

    value: Source | File | ProviderNote


class Count(msgspec.Struct, frozen=True):
    """Report these token counts instead of the real ones."""

    usage: Usage


class Stall(msgspec.Struct, frozen=True):
    """Send nothing for a while."""

    seconds: float


class Fail(msgspec.Struct, frozen=True):
    """Fail here, in this many attempts; later attempts continue after it."""

    kind: ErrorKind
    message: str
    times: int = 1
    retryable: bool | None = None
    retry_after_seconds: float | None = None


class Overflow(msgspec.Struct, frozen=True):
    """Fail with a context that is too long, until it is compacted."""


class Restart(msgspec.Struct, frozen=True):
    """Restart the answer, like gateways that retry internally."""


Act: TypeAlias = (
    Speak | Pace | Call | Search | Found | Add | Count | Stall | Fail | Overflow | Restart
)


class Answer(msgspec.Struct, frozen=True):
    """One answer of the model. If `finish` is None, the content decides."""

    acts: tuple[Act, ...]
    finish: FinishReason | None = None

    @property
    def reason(self) -> FinishReason:
        """The finish reason, if the answer is not cut off."""
        if self.finish is not None:
            return self.finish
        if self.has_calls:
            return FinishReason.TOOL_CALLS
        if any(isinstance(act, Search) and act.is_later for act in self.acts):
            return FinishReason.PAUSED
        if any(isinstance(act, Speak) and act.kind is PieceKind.REFUSAL for act in self.acts):
            return FinishReason.REFUSAL
        return FinishReason.END_TURN

    @property
    def has_calls(self) -> bool:
        """Whether it calls a tool that the provider does not execute."""
        return any(isinstance(act, Call) for act in self.acts)


class Problem(msgspec.Struct, frozen=True):
    """A directive that cannot be read. `line` counts from 1."""

    line: int
    text: str
    advice: str


class Plan(msgspec.Struct, frozen=True):
    """The answers of consecutive steps. If there are problems, the answer lists them instead."""

    answers: tuple[Answer, ...] = ()
    #: The answer when the context up to this message is summarised; None: a summary that lets the
    #: sandbox go on.
    summary: Answer | None = None
    problems: tuple[Problem, ...] = ()
