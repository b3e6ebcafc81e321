"""Anthropic's stream events as typed structs, which msgspec decodes on the fast path.

Unknown events, deltas and fields are ignored, as the protocol requires; blocks of unknown types are
kept as raw JSON.
"""

from typing import Any, TypeAlias

import msgspec


class _Event(msgspec.Struct, tag_field="type", frozen=True, gc=False):
    """Base of events and deltas; the tag is their `type`."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts; None if the event has no such count."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: dict[str, Any] | None = None


class StartedMessage(msgspec.Struct, frozen=True):
    """The message in message_start, still without content."""

    id: str | None = None
    usage: Usage = Usage()


class MessageStart(_Event, tag="message_start", frozen=True):
    """The answer begins."""

    message: StartedMessage


class BlockStart(_Event, tag="content_block_start", frozen=True):
    """A block begins. Results of server tools are complete here."""

    index: int
    content_block: msgspec.Raw


class TextDelta(_Event, tag="text_delta", frozen=True, gc=False):
    """Text."""

    text: str


class JsonDelta(_Event, tag="input_json_delta", frozen=True, gc=False):
    """A piece of a call's arguments."""

    partial_json: str


class ThinkingDelta(_Event, tag="thinking_delta", frozen=True, gc=False):
    """Reasoning."""

    thinking: str


class SignatureDelta(_Event, tag="signature_delta", frozen=True):
    """The signature of a thinking block."""

    signature: str


class CitationsDelta(_Event, tag="citations_delta", frozen=True):
    """A citation of a text block."""

    citation: msgspec.Raw


class CompactionDelta(_Event, tag="compaction_delta", frozen=True):
    """The content of a compaction block."""

    content: str | None = None
    encrypted_content: str | None = None


Delta: TypeAlias = (
    TextDelta | JsonDelta | ThinkingDelta | SignatureDelta | CitationsDelta | CompactionDelta
)


class BlockDelta(_Event, tag="content_block_delta", frozen=True):
    """A piece of a block."""

    index: int
    delta: Delta


class BlockStop(_Event, tag="content_block_stop", frozen=True):
    """A block is complete."""

    index: int


class StopDetails(msgspec.Struct, frozen=True):
    """Why the model refused."""

    category: str | None = None
    explanation: str | None = None


class StopDelta(msgspec.Struct, frozen=True):
    """How the answer ended."""

    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class MessageDelta(_Event, tag="message_delta", frozen=True):
    """The end of the answer; its counts replace earlier ones."""

    delta: StopDelta
    usage: Usage = Usage()


class MessageStop(_Event, tag="message_stop", frozen=True):
    """The terminal event."""


class Ping(_Event, tag="ping", frozen=True):
    """Nothing."""


class ErrorBody(msgspec.Struct, frozen=True):
    """An error, in a stream or in a response body."""

    type: str = ""
    message: str = ""


class ErrorEvent(_Event, tag="error", frozen=True):
    """The answer failed; the connection closes without message_stop."""

    error: ErrorBody = ErrorBody()


Event: TypeAlias = (
    MessageStart
    | BlockStart
    | BlockDelta
    | BlockStop
    | MessageDelta
    | MessageStop
    | Ping
    | ErrorEvent
)


class ContentBlock(msgspec.Struct, frozen=True):
    """The fields of a block that we read; the whole block is also kept as raw JSON."""

    type: str
    id: str = ""
    name: str = ""
    tool_use_id: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    input: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    is_error: bool = False
    citations: list[msgspec.Raw] | None = None


class WholeMessage(msgspec.Struct, frozen=True):
    """An answer that was not streamed."""

    content: list[msgspec.Raw]
    id: str | None = None
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: Usage = Usage()
