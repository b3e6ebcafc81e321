"""The step in progress: mutable, one owner, and it can be sealed at any instant.

What is shown and what will be stored come from the same call here, so they agree byte for byte.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import msgspec

from chatd_server.agent.model.joiner import Joiner
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId, ToolCallId, new_tool_call_id
from chatd_server.domain.limits import ANSWER_PARTS_MAX
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
from chatd_server.domain.stream import CallStarted, ProviderResult
from chatd_server.domain.text import well_formed
from chatd_server.ports.clock import Clock
from chatd_server.ports.live import AttemptWriter

_WholeValue: TypeAlias = Reasoning | Source | File | ProviderNote | ToolResult


@dataclass(frozen=True)
class Answer:
    """A complete answer, ready to be committed."""

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    usage: Usage


class _Open(ABC):
    """A part of the answer, which may still grow."""

    @abstractmethod
    def sealed(self) -> Part:
        """Return the part as it stands now."""

    @property
    @abstractmethod
    def is_blank(self) -> bool:
        """Whether it was opened, and nothing came."""


@dataclass(eq=False)
class _Growing(_Open):
    """A part that comes in deltas."""

    index: int
    joiner: Joiner = field(default_factory=Joiner)
    pieces: list[str] = field(default_factory=list)
    native: Native | None = None

    def add(self, text: str, writer: AttemptWriter) -> None:
        """Append text, and show it."""
        shown = self.joiner.add(text)
        if shown:
            self.pieces.append(shown)
            self._show(shown, writer)

    def end(self, writer: AttemptWriter) -> None:
        """Give up what the joiner held back."""
        if rest := self.joiner.end():
            self.pieces.append(rest)
            self._show(rest, writer)

    @abstractmethod
    def _show(self, text: str, writer: AttemptWriter) -> None:
        """Show text that was appended."""

    @property
    def is_blank(self) -> bool:
        return not self.pieces and self.native is None


class _OpenText(_Growing):
    def _show(self, text: str, writer: AttemptWriter) -> None:
        writer.text(self.index, text)

    def sealed(self) -> Part:
        return Text("".join(self.pieces), self.native)


class _OpenReasoning(_Growing):
    def _show(self, text: str, writer: AttemptWriter) -> None:
        writer.reasoning(self.index, text)

    def sealed(self) -> Part:
        return Reasoning("".join(self.pieces), self.native)


class _OpenRefusal(_Growing):
    def _show(self, text: str, writer: AttemptWriter) -> None:
        writer.refusal(self.index, text)

    def sealed(self) -> Part:
        return Refusal("".join(self.pieces))


@dataclass(eq=False)
class _OpenCall(_Growing):
    """A call; `call` has its arguments only once it is sealed."""

    call: ToolCall = field(kw_only=True)
    is_complete: bool = False

    @property
    def is_blank(self) -> bool:
        return False

    def _show(self, text: str, writer: AttemptWriter) -> None:
        writer.call(self.index, self.call.id, self.call.name, self.call.executor, text)

    def sealed(self) -> Part:
        return ToolCall(
            id=self.call.id,
            name=self.call.name,
            arguments="".join(self.pieces),
            executor=self.call.executor,
            created_at=self.call.created_at,
            vendor_id=self.call.vendor_id,
            native=self.native,
        )


@dataclass(eq=False)
class _Whole(_Open):
    """A part that came at once."""

    value: Part

    @property
    def is_blank(self) -> bool:
        return False

    def sealed(self) -> Part:
        return self.value


_G = TypeVar("_G", _OpenText, _OpenReasoning, _OpenRefusal)


class StepDraft:
    """One run's step in progress, emptied by each `begin`.

    What streams in raises ModelFailure when the answer becomes too large.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._writer: AttemptWriter | None = None
        self._parts: dict[int, _Open] = {}
        self._asked: dict[str, ToolCallId] = {}
        self._finish_reason: FinishReason | None = None
        self.attempt_id = AttemptId("")
        self.usage = Usage()
        #: Results that the journal may not have: of calls that nobody ran, or that a stop cut.
        self.unrecorded: list[ToolResult] = []

    @property
    def writer(self) -> AttemptWriter:
        """The live parts of the attempt in progress."""
        assert self._writer is not None, "no attempt is open"
        return self._writer

    def begin(
        self,
        attempt_id: AttemptId,
        writer: AttemptWriter,
        asked: Mapping[str, ToolCallId] | None = None,
    ) -> None:
        """Start an attempt with nothing in it.

        `asked` are calls of the provider's, by its ids, that an earlier answer left open.
        """
        self._writer = writer
        self._parts = {}
        self._asked = dict(asked or {})
        self._finish_reason = None
        self.attempt_id = attempt_id
        self.usage = Usage()
        self.unrecorded = []

    def close(self) -> None:
        """Forget the attempt: a commit has closed it."""
        self._writer = None
        self._parts = {}
        self.attempt_id = AttemptId("")
        self.usage = Usage()
        self.unrecorded = []

    def abandon(self) -> None:
        """Void what was shown, if an attempt is open, and forget it."""
        if self._writer is not None:
            self._writer.abandon()
        self.close()

    # --- what streams in -------------------------------------------------------------------

    def text(self, part: int, text: str) -> None:
        """Append text."""
        self._growing(part, _OpenText).add(text, self.writer)

    def reasoning(self, part: int, text: str) -> None:
        """Append reasoning; empty text opens the part."""
        self._growing(part, _OpenReasoning).add(text, self.writer)

    def refusal(self, part: int, text: str) -> None:
        """Append words of refusal."""
        self._growing(part, _OpenRefusal).add(text, self.writer)

    def call(self, started: CallStarted, executor: Executor) -> None:
        """Begin a call, and announce it. Its id is ours: vendors repeat theirs or send none."""
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
        self._open(started.part, _OpenCall(index, call=call))
        self.writer.call(index, call.id, call.name, executor, "")

    def arguments(self, part: int, text: str) -> None:
        """Append to the arguments of a call."""
        found = self._parts[part]
        assert isinstance(found, _OpenCall), "arguments belong to a call"
        found.add(text, self.writer)

    def end(self, part: int, native: Native | None, arguments: str | None) -> None:
        """Complete a part. `arguments` count where no delta came before them."""
        found = self._parts.get(part)
        if not isinstance(found, _Growing):
            return  # it never began, or came at once
        found.end(self.writer)
        found.native = _sendable(native)
        if isinstance(found, _OpenCall):
            if arguments and not found.pieces:
                found.add(arguments, self.writer)
                found.end(self.writer)
            found.is_complete = True

    def provider_result(self, given: ProviderResult) -> None:
        """Add the vendor's result of a call that it executed."""
        vendor_id = well_formed(given.vendor_id)
        result = ToolResult(
            # A result without its call keeps an id of its own, and pairs with nothing.
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
        """Add a part that came at once."""
        self._add_whole(part, _travelling(value))

    def finish(self, reason: FinishReason, usage: Usage) -> None:
        """Take the vendor's word that the answer is complete."""
        self._finish_reason = reason
        self.usage = usage

    # --- sealing ---------------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether the vendor said that the answer is complete."""
        return self._finish_reason is not None

    def seal(self) -> Answer:
        """Return the complete answer."""
        assert self._finish_reason is not None, "the answer is not complete"
        reason = self._finish_reason
        calls = [part for part in self._parts.values() if isinstance(part, _OpenCall)]
        if reason is FinishReason.TOOL_CALLS and not all(call.is_complete for call in calls):
            # A call that never ended must not run: with any other reason none of them does.
            reason = FinishReason.OTHER
        return Answer(tuple(self._sealed()), reason, self.usage)

    def seal_partial(self) -> tuple[Part, ...]:
        """Return what there is of the answer; a call keeps the arguments that came."""
        parts = self._sealed()
        opened = list(self._parts.values())
        while opened and opened[-1].is_blank:
            opened.pop()
        return tuple(parts[: len(opened)])

    def _sealed(self) -> list[Part]:
        for part in self._parts.values():
            if isinstance(part, _Growing):
                part.end(self.writer)
        return [part.sealed() for part in self._parts.values()]

    def _growing(self, part: int, kind: type[_G]) -> _G:
        found = self._parts.get(part)
        if found is None:
            found = kind(len(self._parts))
            self._open(part, found)
        assert isinstance(found, kind), "a part never changes its kind"
        return found

    def _add_whole(self, part: int, value: Part) -> None:
        index = len(self._parts)
        self._open(part, _Whole(value))
        self.writer.whole(index, value)

    def _open(self, part: int, opened: _Open) -> None:
        if len(self._parts) == ANSWER_PARTS_MAX:
            raise failure(
                ErrorKind.OUTPUT_TOO_LARGE,
                f"the answer has more than {ANSWER_PARTS_MAX} parts; ask for fewer at once",
            )
        self._parts[part] = opened


def _travelling(value: _WholeValue) -> _WholeValue:
    """Return the value with every text of it well formed."""
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
