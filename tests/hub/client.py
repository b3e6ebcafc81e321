"""A subscriber's own book-keeping, which checks every rule of the contract as it goes.

It sees what a client sees (events, pieces, resets, cursors) in the terms of the domain, and
fails at the first response that breaks a guarantee.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from chatd_server.domain.chat import Status
from chatd_server.domain.event import (
    Cursor,
    LoggedEvent,
    MessageCommitted,
    RetryScheduled,
    StatusChanged,
)
from chatd_server.domain.live import CallHead, Piece, PieceKind
from chatd_server.domain.message import (
    Message,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
)


@dataclass
class Preview:
    """The pieces of one attempt, as a client shows them."""

    attempt_id: str
    base_sequence: int
    offset: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    wholes: int = 0


@dataclass
class CheckingClient:
    """What one client holds. `connected` is the sequence from which on it saw everything live."""

    sequence: int = 0
    events: list[LoggedEvent] = field(default_factory=list)
    preview: Preview | None = None
    cursor: Cursor = field(default_factory=Cursor)
    closed: set[str] = field(default_factory=set)
    #: Attempts closed by an event that was seen, or void by a status.
    connected_from: int = 0
    has_deltas: bool = True
    #: Attempts whose pieces were complete when their message came.
    complete: set[str] = field(default_factory=set)
    #: The attempt inside which this client came back.
    came_back_inside: str = ""

    def copy(self) -> "CheckingClient":
        """Return what a client would store together with its cursor."""
        return deepcopy(self)

    def event(self, event: LoggedEvent, cursor: Cursor) -> None:
        """Take a durable event."""
        assert event.sequence == self.sequence + 1, "durable events have no gap and no duplicate"
        self.sequence = event.sequence
        self.events.append(event)
        what = event.event
        if isinstance(what, MessageCommitted) and what.attempt_id:
            self._committed(event, what.attempt_id)
        elif isinstance(what, RetryScheduled):
            self.closed.add(what.attempt_id)
        elif (
            isinstance(what, StatusChanged)
            and what.status not in {Status.RUNNING, Status.INTERRUPTING}
            and self.preview is not None
        ):
            self.closed.add(self.preview.attempt_id)
        self._stored(cursor)

    def _committed(self, event: LoggedEvent, attempt_id: str) -> None:
        assert event.message is not None
        first = attempt_id not in self.closed
        self.closed.add(attempt_id)
        mine = self.preview if self.preview and self.preview.attempt_id == attempt_id else None
        if first and event.message.role is Role.ASSISTANT:
            expected = texts(event.message)
            shown = mine.texts if mine else {}
            for part, text in shown.items():
                assert expected.get(part, "").startswith(text), "pieces are a prefix of the answer"
            is_live = event.sequence > self.connected_from
            if self.has_deltas and (is_live or attempt_id == self.came_back_inside):
                assert shown == expected, "pieces of a connected client equal the answer"
                self.complete.add(attempt_id)
        if mine is not None:
            self.preview = None

    def piece(self, attempt_id: str, piece: Piece, base_sequence: int, cursor: Cursor) -> None:
        """Take a piece of an attempt."""
        assert self.has_deltas
        assert attempt_id not in self.closed, "no piece comes after the event that closed it"
        assert base_sequence <= self.sequence, "no piece comes before what precedes its attempt"
        if self.preview is None:
            self.preview = Preview(attempt_id, base_sequence)
        assert self.preview.attempt_id == attempt_id, "a reset comes before another attempt"
        assert piece.start == self.preview.offset, "pieces have no gap and no overlap"
        self.preview.offset = piece.end
        if piece.kind in {PieceKind.TEXT, PieceKind.REASONING, PieceKind.REFUSAL}:
            known = self.preview.texts.get(piece.part, "")
            self.preview.texts[piece.part] = known + piece.text
        elif piece.kind is PieceKind.CALL:
            assert isinstance(piece.value, CallHead)
            known = self.preview.texts.get(piece.part, f"{piece.value.id}:")
            self.preview.texts[piece.part] = known + piece.text
        else:
            self.preview.wholes += 1
        self._stored(cursor)
        assert cursor.attempt_id == attempt_id
        assert cursor.delta_offset == piece.end

    def reset(self, attempt_id: str, cursor: Cursor) -> None:
        """Forget the preview."""
        assert self.preview is not None, "nothing was shown that could be taken back"
        assert attempt_id == self.preview.attempt_id
        self.closed.add(attempt_id)
        self.preview = None
        self._stored(cursor)

    def _stored(self, cursor: Cursor) -> None:
        assert cursor.sequence == self.sequence, "a cursor says up to where was sent"
        self.cursor = cursor


def texts(message: Message) -> dict[int, str]:
    """Return the text of each part of an answer, in the form in which pieces add up to it."""
    found = {}
    for index, part in enumerate(message.parts):
        match part:
            case Text() | Reasoning() | Refusal() if part.text:
                found[index] = part.text
            case ToolCall():
                found[index] = f"{part.id}:{part.arguments}"
            case _:
                pass
    return found
