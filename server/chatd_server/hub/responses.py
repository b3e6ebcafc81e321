"""Responses of one chat as bytes, shared by subscribers at the same position."""

import msgspec

from chatd_server.domain.event import Cursor
from chatd_server.domain.limits import MIB
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.position import Phase, Position, after_piece

FRAMES_MAX = 8
"""Newest durable events kept as bytes. Readers that are up to date need only one or two."""
FRAMES_BYTES_MAX = MIB
"""Total size of these; the newest is always kept."""


class NewestPiece(msgspec.Struct, gc=False):
    """A piece that was just sent to a subscriber, for others at the same position."""

    #: The position of that subscriber before the piece and after it.
    before: Position
    after: Position
    overlay: Overlay
    #: Size of the attempt when the piece was made. If it has grown, a longer piece is due.
    size: int
    start: int
    frame: bytes

    def moved(self, at: Position, overlay: Overlay, offset: int) -> Position | None:
        """Return the position of a subscriber after these bytes; None if it needs other bytes.

        Subscribers that are up to date come to share one position object, which makes this cheap.
        """
        if self.overlay is not overlay or self.size != overlay.size:
            return None
        before = self.before
        if at is before or at == before:
            return self.after
        if (
            at.phase is Phase.LIVE
            and at.cursor.sequence == before.cursor.sequence
            and offset == self.start
        ):
            return after_piece(at, overlay, self.after.cursor.delta_offset)
        return None


class Responses:
    """The newest responses: events by the cursor after them, and one piece."""

    __slots__ = ("_bytes", "_events", "piece")

    def __init__(self) -> None:
        self._events: dict[Cursor, bytes] = {}
        self._bytes = 0
        self.piece: NewestPiece | None = None

    def event(self, cursor: Cursor) -> bytes | None:
        """Return the response that moves a subscriber to this cursor."""
        return self._events.get(cursor)

    def keep_event(self, cursor: Cursor, frame: bytes) -> None:
        """Keep a response for other readers at the same position."""
        self._events[cursor] = frame
        self._bytes += len(frame)
        while len(self._events) > FRAMES_MAX or (
            len(self._events) > 1 and self._bytes > FRAMES_BYTES_MAX
        ):
            self._bytes -= len(self._events.pop(next(iter(self._events))))

    def forget(self) -> None:
        self.piece = None
        if self._events:
            self._events, self._bytes = {}, 0
