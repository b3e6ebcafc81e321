"""The live parts of one attempt: one canonical byte string, and a table of its segments.

The string only grows. A segment is a run of bytes of one part. It may start with a *head*, which
is never split (the canonical JSON of a tool call's id and name, a whole part, or a tool's result).
The rest is UTF-8 text, which may be split between any two characters. So one number is a position
in an attempt, however pieces were merged, and a resume is a slice.
"""

from bisect import bisect_right
from collections.abc import Iterator
from enum import Enum

import msgspec

from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId
from chatd_server.domain.limits import ANSWER_BYTES_MAX, TEXT_SLICE_BYTES_MAX, TOOL_BATCH_BYTES_MAX
from chatd_server.domain.live import CallHead, CompactionStart, Piece, PieceKind, PieceValue
from chatd_server.domain.message import Message, Reasoning, Refusal, Text, ToolCall

_WORDS = {
    Text: PieceKind.TEXT,
    Reasoning: PieceKind.REASONING,
    Refusal: PieceKind.REFUSAL,
}
_OF_TOOLS = frozenset({PieceKind.TOOL_STARTED, PieceKind.TOOL_FINISHED})

#: UTF-8 continuation bytes have these bits set to this value.
_CONTINUES_MASK, _CONTINUES = 0xC0, 0x80


class OverlayStatus(Enum):
    """The state of an attempt."""

    OPEN = "open"
    #: The log has closed it, but this process has not read how. Nothing more is shown until then.
    ENDED = "ended"
    #: A message of it was committed: what was shown is valid.
    COMMITTED = "committed"
    #: Nothing of it will be committed: what was shown is void.
    VOID = "void"


class _Segment:
    __slots__ = ("head_end", "kind", "part", "start", "value")

    def __init__(
        self, part: int, kind: PieceKind, start: int, head_end: int, value: PieceValue | None
    ) -> None:
        self.part = part
        self.kind = kind
        self.start = start
        #: Where the head ends; `start` if there is none.
        self.head_end = head_end
        self.value = value


class Overlay:
    """One attempt as its subscribers see it. Writes raise `ModelFailure(output_too_large)`."""

    __slots__ = (
        "_bytes",
        "_heads",
        "_newest",
        "_segments",
        "_starts",
        "_tail",
        "_tail_bytes",
        "attempt_id",
        "base_sequence",
        "over_at",
        "size",
        "status",
    )

    def __init__(self, attempt_id: AttemptId, base_sequence: int) -> None:
        self.attempt_id = attempt_id
        #: Head of the log when the attempt began.
        self.base_sequence = base_sequence
        self.status = OverlayStatus.OPEN
        #: A sequence at which it was over, once known: that of its last event, or a later one.
        self.over_at: int | None = None
        self._bytes = bytearray()
        #: Bytes of the canonical string so far. Every subscriber reads it for every piece.
        self.size = 0
        self._segments: list[_Segment] = []
        self._starts: list[int] = []
        self._newest: _Segment | None = None
        #: What is shown when the attempt is committed, and its bytes.
        self._tail: list[tuple[int, PieceKind, bytes, PieceValue]] = []
        self._tail_bytes = 0
        #: Heads of the parts that are calls.
        self._heads: dict[int, PieceValue] = {}

    @classmethod
    def of_message(cls, message: Message, base_sequence: int) -> "Overlay":
        """Return the overlay of a committed answer or summary, for readers that missed it."""
        overlay = cls(message.attempt_id, base_sequence)
        if message.summary_for is not None:
            start = CompactionStart(message.summary_for)
            overlay.add(0, PieceKind.COMPACTION_STARTED, start)
        for index, part in enumerate(message.parts):
            match part:
                case Text() | Reasoning() | Refusal():
                    overlay.append(index, _WORDS[type(part)], part.text)
                case ToolCall():
                    head = CallHead(part.id, part.name, part.executor)
                    overlay.add(index, PieceKind.CALL, head)
                    overlay.append(index, PieceKind.CALL, part.arguments)
                case _:
                    overlay.add(index, PieceKind.PART, part)
        overlay.status = OverlayStatus.COMMITTED
        return overlay

    # --- writing -------------------------------------------------------------------------------

    def append(self, part: int, kind: PieceKind, text: str) -> None:
        """Append to a growing part; a call needs its head first. Empty text adds nothing."""
        if not text:
            return
        added = text.encode()
        self._admit(len(added), ANSWER_BYTES_MAX)
        newest = self._newest
        if newest is None or newest.part != part or newest.kind is not kind:
            # Vendors may interleave calls: a continued call shows its head again.
            self._begin(part, kind, b"", self._heads[part] if kind is PieceKind.CALL else None)
        self._extend(added)

    def add(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        """Add a value that is never split."""
        head = self._admitted(kind, value)
        if kind is PieceKind.CALL:
            self._heads[part] = value
        self._begin(part, kind, head, value)

    def add_when_committed(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        """Add a value that is never split and is shown only when the attempt is committed."""
        head = self._admitted(kind, value)
        self._tail.append((part, kind, head, value))
        self._tail_bytes += len(head)

    def show_tail(self) -> None:
        """Show the values that waited for the commit."""
        for piece in self._tail:
            self._begin(*piece)
        self._tail = []

    # --- reading -------------------------------------------------------------------------------

    def floor(self, offset: int) -> int:
        """Return the nearest offset at or before this one at which a piece may begin.

        Offsets that a client received are such offsets already. Any other number is rounded down,
        so that nothing is split and nothing is left out.
        """
        if offset <= 0 or not self._starts:
            return 0
        if offset >= len(self._bytes):
            return len(self._bytes)
        segment = self._segments[bisect_right(self._starts, offset) - 1]
        if offset < segment.head_end:
            return segment.start
        return self._character(offset)

    def piece(self, offset: int) -> Piece | None:
        """Return the longest piece that begins at an offset, or None at the end of the string.

        It stays within one segment, and its text has at most TEXT_SLICE_BYTES_MAX bytes.
        """
        newest = self._newest
        if newest is None or offset >= len(self._bytes):
            return None
        index = len(self._segments) - 1
        if offset < newest.start:
            index = bisect_right(self._starts, offset) - 1
        segment = self._segments[index]
        segment_end = len(self._bytes) if segment is newest else self._starts[index + 1]
        start = segment.start if offset < segment.head_end else self._character(offset)
        text_start = max(start, segment.head_end)
        end = text_start + TEXT_SLICE_BYTES_MAX
        end = segment_end if end >= segment_end else self._character(end)
        text = self._bytes[text_start:end].decode()
        return Piece(segment.part, segment.kind, start, end, text, segment.value)

    def pieces(self, offset: int, bytes_max: int) -> Iterator[Piece]:
        """Yield pieces from an offset until `bytes_max` bytes are reached, at least one piece."""
        end = offset + bytes_max
        while offset < end and (piece := self.piece(offset)) is not None:
            yield piece
            offset = piece.end

    # --- inside --------------------------------------------------------------------------------

    def _begin(self, part: int, kind: PieceKind, head: bytes, value: PieceValue | None) -> None:
        start = len(self._bytes)
        segment = _Segment(part, kind, start, start + len(head), value)
        self._segments.append(segment)
        self._starts.append(start)
        self._newest = segment
        self._extend(head)

    def _extend(self, added: bytes) -> None:
        self._bytes += added
        self.size = len(self._bytes)

    def _admitted(self, kind: PieceKind, value: PieceValue) -> bytes:
        head = msgspec.json.encode(_public(value))
        bytes_max = TOOL_BATCH_BYTES_MAX if kind in _OF_TOOLS else ANSWER_BYTES_MAX
        self._admit(self._tail_bytes + len(head), bytes_max)
        return head

    def _admit(self, added: int, bytes_max: int) -> None:
        if len(self._bytes) + added > bytes_max:
            raise failure(
                ErrorKind.OUTPUT_TOO_LARGE,
                f"the output is longer than {bytes_max} bytes; ask for less at once",
            )

    def _character(self, offset: int) -> int:
        """Return the offset at which the character begins that includes this offset."""
        while self._bytes[offset] & _CONTINUES_MASK == _CONTINUES:
            offset -= 1
        return offset


def _public(value: PieceValue) -> PieceValue:
    """Return a value without the vendor's own data, which clients never get."""
    if getattr(value, "native", None) is None:
        return value
    return msgspec.structs.replace(value, native=None)
