"""What a model's adapter yields while an answer arrives.

The adapter numbers the parts in their order in the message, and adds only to the newest of a
number. It ends with `Finished`, or raises `ModelFailure`.
"""

from typing import TypeAlias

import msgspec

from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    File,
    FinishReason,
    Native,
    ProviderNote,
    Reasoning,
    Source,
    ToolResult,
    Usage,
)


class Delta(msgspec.Struct, frozen=True, gc=False):
    """Text to append to a part that grows: words, or the JSON of a call that was started.

    The first delta of words opens their part, also when it is empty.
    """

    part: int
    kind: PieceKind
    text: str


class CallStarted(msgspec.Struct, frozen=True):
    """A tool call begins. `by_provider` calls are executed by the vendor, inside the answer."""

    part: int
    vendor_id: str
    name: str
    by_provider: bool = False


class PartEnded(msgspec.Struct, frozen=True):
    """A part is complete. For a call: only now may it be run.

    `native` is the vendor's own block, when the neutral part cannot give it back by itself.
    `arguments` replaces what the deltas gave (a call that came without deltas).
    """

    part: int
    native: Native | None = None
    arguments: str | None = None


class ProviderResult(msgspec.Struct, frozen=True):
    """The vendor's result of a call that it executed; answers the call with this vendor id."""

    part: int
    vendor_id: str
    name: str
    output: str
    is_json: bool = True
    is_error: bool = False
    native: Native | None = None


class WholePart(msgspec.Struct, frozen=True):
    """A part that comes at once."""

    part: int
    value: Reasoning | Source | File | ProviderNote | ToolResult


class UsageSeen(msgspec.Struct, frozen=True):
    """Tokens so far; replaces what came before. Kept also when the answer is cut."""

    usage: Usage


class Finished(msgspec.Struct, frozen=True):
    """The answer is complete; always the last part of an answer that did not fail."""

    reason: FinishReason
    usage: Usage
    #: The vendor's id of the answer; empty when it gives none.
    response_id: str = ""


class Restarted(msgspec.Struct, frozen=True):
    """The vendor restarted the answer: all parts before are void, numbers begin at 0 again.

    Gateways do this when they retry by themselves in the middle of an answer.
    """


AnswerPart: TypeAlias = (
    Delta | CallStarted | PartEnded | ProviderResult | WholePart | UsageSeen | Restarted | Finished
)
