"""Decodes Anthropic's stream into parts: one decoder per answer.

Blocks arrive one after the other, each with an `index`. Our part numbers rise with them, and
sources get numbers of their own, directly after the block that they came with. A block that the
neutral parts cannot represent (signatures, citations, results of server tools, unknown blocks) is
also kept as the vendor's own JSON.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from chatd_server.domain.answer_parts import (
    AnswerPart,
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
    Restarted,
    UsageSeen,
    WholePart,
)
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    FinishReason,
    Native,
    ProviderNote,
    Reasoning,
    Source,
    Usage,
)
from chatd_server.domain.text import well_formed
from chatd_server.providers.anthropic import errors, wire
from chatd_server.providers.context_limit import context_limit_of

_FINISH = {
    "end_turn": FinishReason.END_TURN,
    "stop_sequence": FinishReason.END_TURN,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.MAX_TOKENS,
    "pause_turn": FinishReason.PAUSED,
    "compaction": FinishReason.PAUSED,
    "refusal": FinishReason.REFUSAL,
    "model_context_window_exceeded": FinishReason.CONTEXT_EXCEEDED,
}

_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_NEUTRAL_CALL_FIELDS = frozenset({"type", "id", "name", "input"})

_events: msgspec.json.Decoder[wire.Event] = msgspec.json.Decoder(wire.Event)
_blocks: msgspec.json.Decoder[wire.ContentBlock] = msgspec.json.Decoder(wire.ContentBlock)
_encode = msgspec.json.encode


class _Block:
    """An unfinished block; owned by the decoder, from its start event to its stop event."""

    __slots__ = ("citations", "compaction", "head", "part", "pieces", "raw", "signature")

    def __init__(self, part: int, head: wire.ContentBlock, raw: bytes) -> None:
        self.part = part
        self.head = head
        self.raw = raw
        self.pieces: list[str] = []
        self.signature = head.signature
        self.citations = list(head.citations or ())
        self.compaction: wire.CompactionDelta | None = None

    @property
    def text(self) -> str:
        """The text of its deltas so far."""
        return well_formed("".join(self.pieces))

    def rebuilt(self, **fields: object) -> str:
        """Return the block's JSON with these fields replaced."""
        whole: dict[str, Any] = msgspec.json.decode(self.raw)
        return _encode({**whole, **fields}).decode()


class AnswerDecoder:
    """Turns the data of each event into parts. Raises ModelFailure for an error event."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._next_part = 0
        self._blocks: dict[int, _Block] = {}
        self._names: dict[str, str] = {}
        self._usage = wire.Usage()
        self._context_limit: int | None = None
        self._stop: wire.StopDelta = wire.StopDelta()
        self._has_calls = False
        self._id = ""
        self.is_complete = False

    def feed(self, data: bytes) -> Iterable[AnswerPart]:
        """Return the parts of one event. Raises ModelFailure."""
        event = _event(data)
        if type(event) is wire.BlockDelta:  # the most common event: avoid a generator
            block = self._blocks.get(event.index)
            return () if block is None else self._delta(block, event.delta)
        return self._rare(event, data)

    def _rare(self, event: wire.Event | None, data: bytes) -> Iterator[AnswerPart]:
        if type(event) is wire.BlockStart:
            yield from self._start(event)
        elif type(event) is wire.BlockStop:
            block = self._blocks.pop(event.index, None)
            if block is not None:
                yield from self._end(block)
        elif type(event) is wire.MessageStart:
            if self._next_part:
                yield self._restart()
            self._id = event.message.id or ""
            self._learn(data)
            yield self._count(event.message.usage)
        elif type(event) is wire.MessageDelta:
            self._stop = event.delta
            self._learn(data)
            yield self._count(event.usage)
        elif type(event) is wire.MessageStop:
            yield from self._finish()
        elif type(event) is wire.ErrorEvent:
            raise errors.from_event(event.error)

    def feed_whole(self, body: bytes) -> Iterator[AnswerPart]:
        """Yield the parts of an answer that was not streamed, which some gateways send."""
        try:
            message = msgspec.json.decode(body, type=wire.WholeMessage)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise errors.DIALECT.cut() from error
        self._id = message.id or ""
        self._learn(body)
        yield self._count(message.usage)
        for index, block in enumerate(message.content):
            yield from self._start(wire.BlockStart(index, block))
            yield from self._end(self._blocks.pop(index))
        self._stop = wire.StopDelta(message.stop_reason, message.stop_details)
        yield from self._finish()

    def _restart(self) -> AnswerPart:
        self._next_part = 0
        self._blocks.clear()
        self._names.clear()
        self._usage = wire.Usage()
        self._has_calls = False
        return Restarted()

    def _take_part(self) -> int:
        self._next_part += 1
        return self._next_part - 1

    def _start(self, event: wire.BlockStart) -> Iterator[AnswerPart]:
        head = _blocks.decode(event.content_block)
        block = _Block(self._take_part(), head, bytes(event.content_block))
        self._blocks[event.index] = block
        if head.type in _CALLS:
            by_provider = head.type != "tool_use"
            self._names[head.id] = head.name
            self._has_calls |= not by_provider
            yield CallStarted(block.part, head.id, head.name, by_provider)
        elif head.type == "text" and head.text:
            block.pieces.append(head.text)
            yield Delta(block.part, PieceKind.TEXT, head.text)
        elif head.type == "thinking":
            block.pieces.append(head.thinking)
            yield Delta(block.part, PieceKind.REASONING, head.thinking)

    def _delta(self, block: _Block, delta: wire.Delta) -> tuple[AnswerPart, ...]:
        if type(delta) is wire.TextDelta:
            block.pieces.append(delta.text)
            return (Delta(block.part, PieceKind.TEXT, delta.text),)
        if type(delta) is wire.JsonDelta:
            block.pieces.append(delta.partial_json)
            return (
                (Delta(block.part, PieceKind.CALL, delta.partial_json),)
                if delta.partial_json
                else ()
            )
        if type(delta) is wire.ThinkingDelta:
            block.pieces.append(delta.thinking)
            return (Delta(block.part, PieceKind.REASONING, delta.thinking),)
        if type(delta) is wire.SignatureDelta:
            block.signature += delta.signature
        elif type(delta) is wire.CitationsDelta:
            block.citations.append(delta.citation)
        elif type(delta) is wire.CompactionDelta:
            block.compaction = delta
        return ()

    def _end(self, block: _Block) -> Iterator[AnswerPart]:
        kind = block.head.type
        if kind in _CALLS:
            yield self._ended_call(block)
        elif kind == "text":
            yield from self._ended_text(block)
        elif kind == "thinking":
            yield PartEnded(block.part, self._signed(block))
        elif kind == "redacted_thinking":
            native = self._native(block.raw.decode(), model=self._model)
            yield WholePart(block.part, Reasoning("", native))
        elif kind.endswith("_tool_result"):
            yield from self._result(block)
        else:
            yield WholePart(block.part, self._note(block))

    def _ended_call(self, block: _Block) -> PartEnded:
        text = block.text
        arguments = None if text else bytes(block.head.input).decode() or "{}"
        fields = msgspec.json.decode(block.raw, type=dict[str, msgspec.Raw]).keys()
        if block.head.type == "tool_use" and fields <= _NEUTRAL_CALL_FIELDS:
            return PartEnded(block.part, None, arguments)
        whole = _json_object(text or arguments or "{}")
        return PartEnded(block.part, self._native(block.rebuilt(input=whole)), arguments)

    def _ended_text(self, block: _Block) -> Iterator[AnswerPart]:
        if not block.citations:
            yield PartEnded(block.part)
            return
        text = block.text
        yield PartEnded(
            block.part, self._native(block.rebuilt(text=text, citations=block.citations))
        )
        for citation in block.citations:
            yield from self._source(msgspec.json.decode(citation))

    def _signed(self, block: _Block) -> Native | None:
        if not block.signature:
            return None
        text = block.text
        return self._native(
            block.rebuilt(thinking=text, signature=block.signature), model=self._model
        )

    def _result(self, block: _Block) -> Iterator[AnswerPart]:
        head = block.head
        content = msgspec.json.decode(head.content) if bytes(head.content) else None
        broken = isinstance(content, dict) and str(content.get("type", "")).endswith("_error")
        yield ProviderResult(
            part=block.part,
            vendor_id=head.tool_use_id,
            name=self._names.get(head.tool_use_id, head.type.removesuffix("_tool_result")),
            output=bytes(head.content).decode() or "null",
            is_error=head.is_error or broken,
            native=self._native(block.raw.decode()),
        )
        for found in content if isinstance(content, list) else [content]:
            if isinstance(found, dict):
                yield from self._source(found)

    def _source(self, found: dict[str, Any]) -> Iterator[AnswerPart]:
        url = str(found.get("url") or "")
        title = str(found.get("title") or found.get("document_title") or "")
        if url or (title and "cited_text" in found):
            cited = str(found.get("cited_text") or "")
            yield WholePart(self._take_part(), Source(url, title, cited))

    def _note(self, block: _Block) -> ProviderNote:
        fields: dict[str, object] = {}
        if block.compaction is not None:
            fields["content"] = block.compaction.content
            if block.compaction.encrypted_content is not None:
                fields["encrypted_content"] = block.compaction.encrypted_content
        return ProviderNote(errors.PROVIDER, block.head.type, self._native(block.rebuilt(**fields)))

    def _native(self, block: str, model: str = "") -> Native:
        return Native(errors.PROVIDER, block, model)

    def _count(self, seen: wire.Usage) -> UsageSeen:
        """Take each count from the newest event that has one."""
        newer = {
            name: value for name, value in msgspec.structs.asdict(seen).items() if value is not None
        }
        self._usage = msgspec.structs.replace(self._usage, **newer)
        return UsageSeen(self._neutral_usage())

    def _learn(self, data: bytes) -> None:
        """Look for a context window in what the typed decoding drops: gateways add fields.

        Content is left out: a tool's arguments may have such a key.
        """
        try:
            fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            fields.pop("content", None)
            found = context_limit_of({key: msgspec.json.decode(it) for key, it in fields.items()})
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # a second look must not fail an answer
        self._context_limit = max(found or 0, self._context_limit or 0) or None

    def _neutral_usage(self) -> Usage:
        usage = self._usage
        counts = (
            usage.input_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
            usage.output_tokens,
        )
        details = usage.output_tokens_details or {}
        return Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=details.get("thinking_tokens"),
            cache_read_tokens=usage.cache_read_input_tokens,
            cache_write_tokens=usage.cache_creation_input_tokens,
            context_limit=self._context_limit,
            context_tokens=None if usage.input_tokens is None else sum(c or 0 for c in counts),
        )

    def _finish(self) -> Iterator[AnswerPart]:
        reason = _FINISH.get(self._stop.stop_reason or "", FinishReason.OTHER)
        if reason is FinishReason.END_TURN and self._has_calls:
            reason = FinishReason.TOOL_CALLS
        details = self._stop.stop_details
        if reason is FinishReason.REFUSAL and details is not None and details.explanation:
            yield Delta(self._take_part(), PieceKind.REFUSAL, details.explanation)
        self.is_complete = True
        yield Finished(reason, self._neutral_usage(), self._id)


def _event(data: bytes) -> wire.Event | None:
    """Return the event, or None if it is unknown. Raises ModelFailure for broken JSON."""
    try:
        return _events.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
        return _slow_event(data)


def _slow_event(data: bytes) -> wire.Event | None:
    """Decode what the fast decoder rejects: lone surrogates, unknown events and deltas."""
    try:
        value = json.loads(data.decode(errors="replace"))
    except ValueError as error:
        raise errors.DIALECT.cut() from error
    try:
        event: wire.Event = msgspec.convert(value, wire.Event)
    except msgspec.ValidationError:
        return _block_start(value)
    return event


def _block_start(value: object) -> wire.Event | None:
    """Return a block start if it is one, else None."""
    if isinstance(value, dict) and value.get("type") == "content_block_start":
        raw = well_formed(json.dumps(value.get("content_block", {}), ensure_ascii=False))
        return wire.BlockStart(int(value.get("index", 0)), msgspec.Raw(raw.encode()))
    return None


def _json_object(text: str) -> object:
    """Return a JSON object unchanged; an empty one if the text is not valid JSON."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return msgspec.Raw(text.encode()) if isinstance(value, dict) else {}
