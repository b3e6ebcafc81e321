"""The position of a stream, and how each thing that it sends moves it. Positions are immutable:
each move returns a new one.
"""

from enum import Enum

import msgspec

from chatd_server.domain.chat import Status
from chatd_server.domain.event import Cursor, LoggedEvent, MessageCommitted, StatusChanged
from chatd_server.domain.ids import AttemptId
from chatd_server.hub.attempts import closing
from chatd_server.hub.overlay import Overlay, OverlayStatus

NO_ATTEMPT = AttemptId("")


class Phase(Enum):
    """The phase of a stream."""

    #: The snapshot and the catch-up after it are not finished: a resume starts them again.
    SNAPSHOT = "snapshot"
    #: Events and pieces from before the start of the stream are being sent.
    REPLAY = "replay"
    #: All of those were sent.
    LIVE = "live"


class Position(msgspec.Struct, frozen=True, gc=False):
    """What a stream has sent. `cursor.attempt_id`: the attempt whose pieces the client holds."""

    cursor: Cursor
    phase: Phase
    #: Status of the chat at `cursor.sequence`; before phase LIVE, that at the start of the stream.
    status: Status
    #: The source of the pieces that the client holds; None if it is not in this process.
    overlay: Overlay | None = None
    #: These pieces belong to an attempt that is open on another server.
    is_elsewhere: bool = False
    #: Newest attempt whose message was sent.
    done: AttemptId = NO_ATTEMPT


class Terms(msgspec.Struct, frozen=True):
    """The request of a stream, and the state of the chat when it began."""

    deltas: bool
    until: frozenset[Status]
    #: Head of the log when the stream began.
    live_from: int
    #: The attempt that was open then, and its size.
    target: Overlay | None
    target_size: int

    def without_target(self) -> "Terms":
        """Return the terms after catching up, which name no attempt."""
        return Terms(self.deltas, self.until, self.live_from, None, 0)


NOWHERE = Position(Cursor(0), Phase.SNAPSHOT, Status.WAITING)
NO_TERMS = Terms(deltas=False, until=frozenset(), live_from=0, target=None, target_size=0)
"""Position and terms of a stream before it begins and after it ends."""


def after_event(at: Position, to: Terms, event: LoggedEvent) -> Position:
    """Return the position after a durable event."""
    cursor, logged = at.cursor, event.event
    status, done, overlay, is_elsewhere = at.status, at.done, at.overlay, at.is_elsewhere
    if isinstance(logged, StatusChanged) and event.sequence > to.live_from:
        status = logged.status
    if isinstance(logged, MessageCommitted) and logged.attempt_id:
        done = logged.attempt_id
    held, offset = cursor.attempt_id, cursor.delta_offset
    if held:
        became = closing(logged, held)
        if became is OverlayStatus.COMMITTED:
            held, offset = NO_ATTEMPT, 0
        if became is not OverlayStatus.OPEN:
            overlay, is_elsewhere = None, False
    moved = Cursor(event.sequence, held, offset, cursor.snapshot_unfinished)
    return Position(moved, at.phase, status, overlay, is_elsewhere, done)


def after_piece(at: Position, overlay: Overlay, end: int) -> Position:
    """Return the position after a piece of an attempt."""
    cursor = at.cursor
    moved = Cursor(cursor.sequence, overlay.attempt_id, end, cursor.snapshot_unfinished)
    return Position(moved, at.phase, at.status, overlay, False, at.done)


def after_reset(at: Position) -> Position:
    """Return the position after preview_reset: the client holds no pieces."""
    moved = Cursor(at.cursor.sequence, snapshot_unfinished=at.cursor.snapshot_unfinished)
    return Position(moved, at.phase, at.status, done=at.done)


def after_catching_up(at: Position) -> Position:
    """Return the position after caught_up."""
    cursor = msgspec.structs.replace(at.cursor, snapshot_unfinished=False)
    return msgspec.structs.replace(at, cursor=cursor, phase=Phase.LIVE)
