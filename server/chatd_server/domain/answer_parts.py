"""What a model's adapter yields while an answer streams in.

Parts are numbered by the adapter in the order in which they will stand in the message; a part
is only added to while it is the newest of its number. A stream that ends without `Finished`
has failed: the adapter raises `ModelFailure`, it never just stops.
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
    """Tokens so far; the newest replaces all before. Kept also when the answer is cut."""

    usage: Usage


class Finished(msgspec.Struct, frozen=True):
    """The answer is complete; always the last part of a stream that did not fail."""

    reason: FinishReason
    usage: Usage
    #: The vendor's id of the answer; empty when it gives none.
    response_id: str = ""


class Restarted(msgspec.Struct, frozen=True):
    """The vendor began the answer anew: everything before is void, part numbers begin at 0.

    Gateways do this when they retry by themselves in the middle of a stream.
    """


AnswerPart: TypeAlias = (
    Delta | CallStarted | PartEnded | ProviderResult | WholePart | UsageSeen | Restarted | Finished
)
