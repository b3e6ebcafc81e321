"""The canonical string of an attempt, and every way to split it."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd_server.domain import limits
from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.domain.ids import AttemptId, MessageId, ToolCallId, TurnId
from chatd_server.domain.live import CallHead, CompactionStart, Piece, PieceKind
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    Message,
    Native,
    Part,
    Reasoning,
    Refusal,
    Role,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from chatd_server.hub.overlay import Overlay, OverlayStatus

ATTEMPT = AttemptId("a1")
CALL = ToolCallId("call_1")

#: Any characters, of one to four bytes, including NUL.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


def new_overlay() -> Overlay:
    """Return an empty overlay."""
    return Overlay(ATTEMPT, base_sequence=3)


def result(output: str, call_id: str = "call_1") -> ToolResult:
    """Return a tool's result."""
    return ToolResult(ToolCallId(call_id), "look", output, Executor.SERVER, created_at=1)


@dataclass
class Written:
    """What a random writer wrote, per part, in a form that does not depend on splits."""

    texts: dict[tuple[int, PieceKind], str] = field(default_factory=dict)
    wholes: list[object] = field(default_factory=list)

    def text(self, part: int, kind: PieceKind, text: str) -> None:
        """Note text."""
        if text:
            self.texts[part, kind] = self.texts.get((part, kind), "") + text

    def piece(self, piece: Piece) -> None:
        """Note a piece, as a client does."""
        if piece.kind in {PieceKind.TEXT, PieceKind.REASONING, PieceKind.REFUSAL}:
            self.text(piece.part, piece.kind, piece.text)
        elif piece.kind is PieceKind.CALL:
            assert isinstance(piece.value, CallHead)
            key = (piece.part, piece.kind)
            self.texts[key] = self.texts.get(key, f"{piece.value.id}:") + piece.text
        else:
            assert piece.text == ""
            self.wholes.append(piece.value)


KINDS = [PieceKind.TEXT, PieceKind.REASONING, PieceKind.REFUSAL]
WRITES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 3), TEXTS),
        st.tuples(st.just(PieceKind.CALL), st.integers(4, 6), TEXTS),
        st.tuples(st.just(PieceKind.PART), st.integers(7, 9), TEXTS),
        st.tuples(st.just(PieceKind.TOOL_FINISHED), st.just(0), TEXTS),
    ),
    max_size=30,
)


def write(overlay: Overlay, writes: list[tuple[PieceKind, int, str]]) -> Written:
    """Write everything; return what a client must see at the end."""
    written = Written()
    for kind, part, text in writes:
        if kind is PieceKind.CALL:
            call = ToolCallId(f"call_{part}")
            if (part, kind) not in written.texts:
                overlay.add(part, kind, CallHead(call, "look", Executor.CLIENT))
            overlay.append(part, kind, text)
            known = written.texts.setdefault((part, kind), f"{call}:")
            written.texts[part, kind] = known + text
        elif kind is PieceKind.PART:
            source = Source(url=text)
            overlay.add(part, PieceKind.PART, source)
            written.wholes.append(source)
        elif kind is PieceKind.TOOL_FINISHED:
            overlay.add(0, PieceKind.TOOL_FINISHED, result(text))
            written.wholes.append(result(text))
        else:
            overlay.append(part, kind, text)
            written.text(part, kind, text)
    return written


@given(WRITES, st.lists(st.integers(0, 2000), max_size=8))
def test_any_split_of_writes_and_any_cuts_give_the_same_answer(
    writes: list[tuple[PieceKind, int, str]], cuts: list[int]
) -> None:
    """A client that was cut anywhere and resumed there has exactly what was written."""
    overlay = new_overlay()
    expected = write(overlay, writes)
    got = Written()
    offset = 0
    for cut in [*sorted(cuts), overlay.size]:
        limit = max(1, cut - offset)
        for piece in overlay.pieces(offset, limit):
            assert piece.start == offset
            assert piece.end > piece.start
            got.piece(piece)
            offset = piece.end
    assert offset == overlay.size
    assert got == expected


@given(WRITES, st.integers(-5, 3000))
def test_an_offset_is_rounded_down_to_a_place_where_a_piece_may_begin(
    writes: list[tuple[PieceKind, int, str]], offset: int
) -> None:
    """A floor is a fixed point at or before the offset, and a piece begins exactly there."""
    overlay = new_overlay()
    write(overlay, writes)
    place = overlay.floor(offset)
    assert 0 <= place <= max(offset, 0)
    assert overlay.floor(place) == place
    piece = overlay.piece(max(0, offset))
    assert (piece is None) == (place == overlay.size)
    assert piece is None or piece.start == place


@given(TEXTS, TEXTS, st.data())
def test_the_same_text_has_the_same_offsets_however_it_was_written(
    first: str, second: str, data: st.DataObject
) -> None:
    """Offsets count bytes of the text, not of the writes."""
    whole, split = new_overlay(), new_overlay()
    text = first + second
    whole.append(0, PieceKind.TEXT, text)
    at = data.draw(st.integers(0, len(text)))
    split.append(0, PieceKind.TEXT, text[:at])
    split.append(0, PieceKind.TEXT, text[at:])
    assert whole.size == split.size == len(text.encode())
    assert list(whole.pieces(0, 10**6)) == list(split.pieces(0, 10**6))


def test_writes_to_one_part_merge_into_one_piece() -> None:
    """Unread text is read as one longer piece."""
    overlay = new_overlay()
    for word in ("so ", "it ", "goes"):
        overlay.append(0, PieceKind.TEXT, word)
    assert overlay.piece(0) == Piece(0, PieceKind.TEXT, 0, 10, "so it goes")
    assert overlay.piece(3) == Piece(0, PieceKind.TEXT, 3, 10, "it goes")
    assert overlay.piece(10) is None


def test_a_piece_ends_where_its_part_ends() -> None:
    """Merging never crosses a part or a kind."""
    overlay = new_overlay()
    overlay.append(0, PieceKind.REASONING, "hm")
    overlay.append(0, PieceKind.TEXT, "yes")
    overlay.append(1, PieceKind.TEXT, "no")
    assert [(it.part, it.kind, it.text) for it in overlay.pieces(0, 100)] == [
        (0, PieceKind.REASONING, "hm"),
        (0, PieceKind.TEXT, "yes"),
        (1, PieceKind.TEXT, "no"),
    ]


def test_a_piece_holds_at_most_the_slice_limit_and_whole_characters() -> None:
    """A slice that would end within a character ends before it."""
    overlay = new_overlay()
    text = "x" + "é" * limits.TEXT_SLICE_BYTES_MAX
    overlay.append(0, PieceKind.TEXT, text)
    pieces = list(overlay.pieces(0, overlay.size))
    assert "".join(it.text for it in pieces) == text
    assert max(len(it.text.encode()) for it in pieces) <= limits.TEXT_SLICE_BYTES_MAX
    assert len(pieces) == 3


def test_a_call_is_announced_before_it_has_arguments() -> None:
    """An announcement has its own offset, so a resume never repeats or loses it."""
    overlay = new_overlay()
    overlay.add(0, PieceKind.CALL, CallHead(CALL, "look", Executor.SERVER))
    head = CallHead(CALL, "look", Executor.SERVER)
    announced = overlay.piece(0)
    assert announced == Piece(0, PieceKind.CALL, 0, overlay.size, "", head)
    overlay.append(0, PieceKind.CALL, '{"a":1}')
    assert overlay.piece(announced.end) == Piece(
        0, PieceKind.CALL, announced.end, announced.end + 7, '{"a":1}', head
    )
    merged = overlay.piece(0)
    assert merged == Piece(0, PieceKind.CALL, 0, announced.end + 7, '{"a":1}', head)


def test_calls_whose_arguments_alternate_are_announced_once() -> None:
    """Vendors may interleave parallel calls."""
    overlay = new_overlay()
    for part in (0, 1):
        head = CallHead(ToolCallId(f"call_{part}"), "look", Executor.SERVER)
        overlay.add(part, PieceKind.CALL, head)
    for arguments in ("{", "}"):
        for part in (0, 1):
            overlay.append(part, PieceKind.CALL, arguments)
    pieces = list(overlay.pieces(0, 10**6))
    assert [(it.part, it.text) for it in pieces] == [
        *[(0, ""), (1, "")],
        *[(0, "{"), (1, "{"), (0, "}"), (1, "}")],
    ]
    assert [it.end - it.start for it in pieces[2:]] == [1, 1, 1, 1]


def test_an_indivisible_piece_is_never_cut() -> None:
    """An offset within a result begins the whole result."""
    overlay = new_overlay()
    overlay.add(0, PieceKind.TOOL_STARTED, CallHead(CALL, "look", Executor.SERVER))
    overlay.add(0, PieceKind.TOOL_FINISHED, result("r" * limits.TOOL_RESULT_BYTES_MAX))
    overlay.add(0, PieceKind.COMPACTION_STARTED, CompactionStart(CompactionSource.AUTO))
    started, finished, compaction = overlay.pieces(0, 10**9)
    assert overlay.piece(started.end + 1000) == finished
    assert finished.value == result("r" * limits.TOOL_RESULT_BYTES_MAX)
    assert finished.end - finished.start > limits.TOOL_RESULT_BYTES_MAX
    assert compaction.value == CompactionStart(CompactionSource.AUTO)


def test_empty_text_has_no_place() -> None:
    """There is nothing to show and nothing to send."""
    overlay = new_overlay()
    overlay.append(0, PieceKind.REASONING, "")
    assert overlay.size == 0
    assert overlay.piece(0) is None


def test_an_answer_beyond_its_limit_fails_and_keeps_what_was_shown() -> None:
    """The limit is on all parts together, and the failure names the kind."""
    overlay = new_overlay()
    overlay.append(0, PieceKind.REASONING, "x" * (limits.ANSWER_BYTES_MAX - 1))
    overlay.append(1, PieceKind.TEXT, "y")
    with pytest.raises(ModelFailure) as raised:
        overlay.append(1, PieceKind.TEXT, "z")
    assert raised.value.error.kind is ErrorKind.OUTPUT_TOO_LARGE
    with pytest.raises(ModelFailure):
        overlay.add(2, PieceKind.CALL, CallHead(CALL, "look", Executor.SERVER))
    with pytest.raises(ModelFailure):
        overlay.add(2, PieceKind.PART, Source(url="u"))
    assert overlay.size == limits.ANSWER_BYTES_MAX


def test_a_batch_of_tools_has_its_own_limit() -> None:
    """Results of a batch may be longer than an answer, up to their own limit."""
    overlay = new_overlay()
    big = "r" * limits.TOOL_RESULT_BYTES_MAX
    for _ in range(31):
        overlay.add(0, PieceKind.TOOL_FINISHED, result(big))
    with pytest.raises(ModelFailure):
        overlay.add(0, PieceKind.TOOL_FINISHED, result(big))
    assert overlay.size <= limits.TOOL_BATCH_BYTES_MAX


def test_the_vendors_own_data_is_not_in_the_string() -> None:
    """A result has the same length with and without the vendor's own data."""
    plain, native = new_overlay(), new_overlay()
    plain.add(0, PieceKind.PART, Reasoning("hm"))
    native.add(0, PieceKind.PART, Reasoning("hm", native=Native("anthropic", '{"signature":"s"}')))
    assert plain.size == native.size


def test_a_committed_answer_leads_to_the_same_string() -> None:
    """A reader that missed the pieces gets them from the message, with the same offsets."""
    parts: tuple[Part, ...] = (
        Reasoning("let me see"),
        Text("I look.\x00 ünï"),
        ToolCall(CALL, "look", '{"a":1}', Executor.SERVER, created_at=5, vendor_id="v"),
        Source(url="u"),
        Refusal("no"),
    )
    message = Message(
        id=MessageId("m"),
        position=2,
        role=Role.ASSISTANT,
        parts=parts,
        turn_id=TurnId("t"),
        created_at=9,
        sequence=4,
        attempt_id=ATTEMPT,
    )
    live = new_overlay()
    live.append(0, PieceKind.REASONING, "let me")
    live.append(0, PieceKind.REASONING, " see")
    live.append(1, PieceKind.TEXT, "I look.\x00 ünï")
    live.add(2, PieceKind.CALL, CallHead(CALL, "look", Executor.SERVER))
    live.append(2, PieceKind.CALL, '{"a":1}')
    live.add(3, PieceKind.PART, Source(url="u"))
    live.append(4, PieceKind.REFUSAL, "no")
    replayed = Overlay.of_message(message, base_sequence=3)
    assert list(replayed.pieces(0, 10**6)) == list(live.pieces(0, 10**6))
    assert replayed.status is OverlayStatus.COMMITTED
