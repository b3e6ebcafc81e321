"""Responses of one chat as bytes, shared by subscribers at the same position."""

from chatd_server.domain.event import Cursor
from chatd_server.domain.limits import MIB
from chatd_server.domain.live import Piece
from chatd_server.hub.overlay import Overlay

FRAMES_MAX = 8
"""Newest durable events kept as bytes. Level readers all ask for the newest one or two."""
FRAMES_BYTES_MAX = MIB
"""Bytes of these; the newest is kept in any case."""


class NewestPiece:
    """A piece that was just made, and where a reader has to stand to be sent the same bytes."""

    __slots__ = ("frame", "overlay", "piece", "sequence", "size")

    def __init__(
        self, overlay: Overlay, size: int, sequence: int, piece: Piece, frame: bytes
    ) -> None:
        self.overlay = overlay
        #: Bytes of the attempt when the piece was made: a reader that could get more does.
        self.size = size
        self.sequence = sequence
        self.piece = piece
        self.frame = frame

    def fits(self, overlay: Overlay, cursor: Cursor, offset: int) -> bool:
        """Say whether a reader that is level gets exactly these bytes next."""
        return (
            self.overlay is overlay
            and self.piece.start == offset
            and self.size == overlay.size
            and self.sequence == cursor.sequence
        )


class Responses:
    """The newest responses: events by the cursor after them, and one piece."""

    __slots__ = ("_bytes", "_events", "piece")

    def __init__(self) -> None:
        self._events: dict[Cursor, bytes] = {}
        self._bytes = 0
        self.piece: NewestPiece | None = None

    def event(self, cursor: Cursor) -> bytes | None:
        """Return the response that leads to a cursor."""
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
        """Drop all of them."""
        self.piece = None
        if self._events:
            self._events, self._bytes = {}, 0
