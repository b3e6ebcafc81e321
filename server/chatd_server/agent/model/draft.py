"""The step in progress: mutable, with one owner, and ready to be sealed at any moment.

The same call shows text and keeps it for storage, so both agree byte for byte.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import msgspec

from chatd_server.agent.model.joiner import Joiner
from chatd_server.domain.answer_parts import CallStarted, Finished, ProviderResult
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId, ToolCallId, new_tool_call_id
from chatd_server.domain.limits import ANSWER_PARTS_MAX
from chatd_server.domain.live import CallHead, PieceKind
from chatd_server.domain.message import (
    Executor,
    File,
    FinishReason,
    Native,
    Part,
    ProviderNote,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
    Usage,
)
from chatd_server.domain.text import well_formed
from chatd_server.ports.clock import Clock
from chatd_server.ports.live import AttemptWriter

_WholeValue: TypeAlias = Reasoning | Source | File | ProviderNote | ToolResult


@dataclass(frozen=True)
class Answer:
    """A complete answer, ready to commit."""

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    usage: Usage
    #: The vendor's id for the answer.
    response_id: str


@dataclass(eq=False)
class _Growing:
    """A part that arrives in deltas; `sealed_as` builds the finished part from them."""

    index: int
    kind: PieceKind
    sealed_as: Callable[[str, Native | None], Part]
    joiner: Joiner = field(default_factory=Joiner)
    pieces: list[str] = field(default_factory=list)
    native: Native | None = None
    is_complete: bool = False

    def append(self, text: str, writer: AttemptWriter) -> None:
        """Append text; show all of it but an incomplete character at the end."""
        shown = self.joiner.add(text)
        if shown:
            self.pieces.append(shown)
            writer.append(self.index, self.kind, shown)

    def flush(self, writer: AttemptWriter) -> None:
        """Show what the joiner held back."""
        if rest := self.joiner.end():
            self.pieces.append(rest)
            writer.append(self.index, self.kind, rest)

    def sealed(self) -> Part:
        """Return the part as it stands now."""
        return self.sealed_as("".join(self.pieces), self.native)

    @property
    def is_blank(self) -> bool:
        """Whether the part was opened but is still empty. A call always has its head."""
        return self.kind is not PieceKind.CALL and not self.pieces and self.native is None


_WORDS: Mapping[PieceKind, Callable[[str, Native | None], Part]] = {
    PieceKind.TEXT: Text,
    PieceKind.REASONING: Reasoning,
    PieceKind.REFUSAL: lambda text, _: Refusal(text),
}
"""The parts that a first delta opens; `CallStarted` opens a call."""


class StepDraft:
    """The step in progress of one run; `begin` empties it.

    Methods that add content raise ModelFailure when the answer becomes too large.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._writer: AttemptWriter | None = None
        self._parts: dict[int, _Growing | Part] = {}
        self._asked: dict[str, ToolCallId] = {}
        self._finish_reason: FinishReason | None = None
        self._keeps_partial = True
        self._response_id = ""
        self.attempt_id = AttemptId("")
        self.usage = Usage()
        #: Results that the journal may lack: of calls that were not run, or that a stop cut off.
        self.unrecorded: list[ToolResult] = []

    @property
    def writer(self) -> AttemptWriter:
        """The writer for the live parts of the open attempt."""
        assert self._writer is not None, "no attempt is open"
        return self._writer

    def begin(
        self,
        attempt_id: AttemptId,
        writer: AttemptWriter,
        asked: Mapping[str, ToolCallId] | None = None,
        *,
        keeps_partial: bool = True,
    ) -> None:
        """Start an empty attempt.

        `asked` holds the provider's calls, by its ids, that an earlier answer left open.
        `keeps_partial`: whether the parts so far are worth saving when a stop cuts it.
        """
        self._writer = writer
        self._parts = {}
        self._asked = dict(asked or {})
        self._finish_reason = None
        self._keeps_partial = keeps_partial
        self.attempt_id = attempt_id
        self.usage = Usage()
        self.unrecorded = []

    def close(self) -> None:
        """Forget the attempt after a commit has closed it."""
        self._writer = None
        self._parts = {}
        self.attempt_id = AttemptId("")
        self.usage = Usage()
        self.unrecorded = []

    def abandon(self) -> None:
        """Void what was shown, if an attempt is open, and forget the attempt."""
        if self._writer is not None:
            self._writer.abandon()
        self.close()

    # --- what streams in -------------------------------------------------------------------

    def append(self, part: int, kind: PieceKind, text: str) -> None:
        """Append to a growing part; the first text opens it."""
        found = self._parts.get(part)
        if found is None:
            found = _Growing(len(self._parts), kind, _WORDS[kind])
            self._open(part, found)
        assert isinstance(found, _Growing), "a part that arrived whole does not grow"
        assert found.kind is kind, "a part never changes its kind"
        found.append(text, self.writer)

    def call(self, started: CallStarted, executor: Executor) -> None:
        """Begin a call and show its head. The id is ours: vendors repeat theirs or send none."""
        call = ToolCall(
            id=new_tool_call_id(),
            name=well_formed(started.name),
            arguments="",
            executor=executor,
            created_at=self._clock.now(),
            vendor_id=well_formed(started.vendor_id),
        )
        index = len(self._parts)
        if executor is Executor.PROVIDER:
            self._asked[call.vendor_id] = call.id
        self._open(started.part, _Growing(index, PieceKind.CALL, partial(_with_arguments, call)))
        self.writer.add(index, PieceKind.CALL, CallHead(call.id, call.name, executor))

    def end(self, part: int, native: Native | None, arguments: str | None) -> None:
        """Complete a part. `arguments` is used only if no delta arrived."""
        found = self._parts.get(part)
        if not isinstance(found, _Growing):
            return  # it never began, or arrived whole
        found.flush(self.writer)
        if arguments and not found.pieces:
            found.append(arguments, self.writer)
            found.flush(self.writer)
        found.native = _sendable(native)
        found.is_complete = True

    def provider_result(self, given: ProviderResult) -> None:
        """Add the result of a call that the vendor executed."""
        vendor_id = well_formed(given.vendor_id)
        result = ToolResult(
            # A result without a matching call gets an id of its own.
            call_id=self._asked.get(vendor_id) or new_tool_call_id(),
            name=well_formed(given.name),
            output=well_formed(given.output),
            executor=Executor.PROVIDER,
            created_at=self._clock.now(),
            is_json=given.is_json,
            error=ToolErrorKind.FAILED if given.is_error else None,
            native=_sendable(given.native),
        )
        self._add_whole(given.part, result)

    def whole(self, part: int, value: _WholeValue) -> None:
        """Add a part that arrived whole."""
        self._add_whole(part, _travelling(value))

    def finish(self, finished: Finished) -> None:
        """Record that the vendor completed the answer."""
        self._finish_reason = finished.reason
        self._response_id = well_formed(finished.response_id)
        self.usage = finished.usage

    # --- sealing ---------------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether the vendor completed the answer."""
        return self._finish_reason is not None

    def seal(self) -> Answer:
        """Return the complete answer. Call it only when `is_finished`."""
        assert self._finish_reason is not None, "the answer is not complete"
        reason = self._finish_reason
        if reason is FinishReason.TOOL_CALLS and any(map(_is_cut_call, self._parts.values())):
            # A call that never ended must not run. Any other finish reason runs none of the calls.
            reason = FinishReason.OTHER
        return Answer(tuple(self._sealed()), reason, self.usage, self._response_id)

    def seal_partial(self) -> tuple[Part, ...]:
        """Return the answer so far; a call keeps the arguments that arrived."""
        if not self._keeps_partial:
            return ()
        parts = self._sealed()
        opened = list(self._parts.values())
        while opened and isinstance(last := opened[-1], _Growing) and last.is_blank:
            opened.pop()
        return tuple(parts[: len(opened)])

    def _sealed(self) -> list[Part]:
        sealed: list[Part] = []
        for part in self._parts.values():
            if isinstance(part, _Growing):
                part.flush(self.writer)
                sealed.append(part.sealed())
            else:
                sealed.append(part)
        return sealed

    def _add_whole(self, part: int, value: Part) -> None:
        index = len(self._parts)
        self._open(part, value)
        self.writer.add(index, PieceKind.PART, value)

    def _open(self, part: int, opened: _Growing | Part) -> None:
        if len(self._parts) == ANSWER_PARTS_MAX:
            raise failure(
                ErrorKind.OUTPUT_TOO_LARGE,
                f"the answer has more than {ANSWER_PARTS_MAX} parts; ask for fewer at once",
            )
        self._parts[part] = opened


def _is_cut_call(part: _Growing | Part) -> bool:
    return isinstance(part, _Growing) and part.kind is PieceKind.CALL and not part.is_complete


def _with_arguments(call: ToolCall, arguments: str, native: Native | None) -> ToolCall:
    return msgspec.structs.replace(call, arguments=arguments, native=native)


def _travelling(value: _WholeValue) -> _WholeValue:
    """Return the value with well-formed Unicode in all its texts."""
    texts = {
        name: fixed
        for name in value.__struct_fields__
        if isinstance(text := getattr(value, name), str) and (fixed := well_formed(text)) != text
    }
    return msgspec.structs.replace(value, **texts) if texts else value


def _sendable(native: Native | None) -> Native | None:
    if native is None:
        return None
    json = well_formed(native.json)
    return native if json == native.json else msgspec.structs.replace(native, json=json)
