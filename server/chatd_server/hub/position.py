"""Where a stream stands, and what it sends next: pure decisions over what this process knows.

The rules, in the order in which `decide` asks them:

1. A stream that has to end ends; what its client holds in vain is taken back before.
2. Durable events go first, in order. Before the event that commits an attempt, its missing
   pieces go; so the pieces of a connected subscriber always add up to the message.
3. Level with the log: pieces of an attempt that is over are taken back, then the open attempt
   goes on.
"""

from enum import Enum
from typing import TypeAlias

import msgspec

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.event import Cursor, LoggedEvent, MessageCommitted, StatusChanged
from chatd_server.domain.ids import AttemptId
from chatd_server.domain.live import Follow, StreamEndReason, Until
from chatd_server.hub.attempts import closing
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.overlay import Overlay, OverlayStatus
from chatd_server.ports import EventPage

NO_ATTEMPT = AttemptId("")
NOTHING_READ = EventPage((), 0, 0)
"""The page of a reader that has read nothing for itself."""

_UNTIL: dict[Until, frozenset[Status]] = {
    Until.FOREVER: frozenset(),
    Until.SETTLED: frozenset({Status.WAITING, Status.ERROR}),
    Until.ACTION_OR_SETTLED: frozenset({Status.WAITING, Status.ERROR, Status.REQUIRES_ACTION}),
}


class Phase(Enum):
    """How far a stream is."""

    #: The snapshot, and what it left to be sent, is not finished: a cut begins it again.
    SNAPSHOT = "snapshot"
    #: Events and pieces from before the stream began are being sent.
    REPLAY = "replay"
    #: All of that was sent.
    LIVE = "live"


class Position(msgspec.Struct, frozen=True, gc=False):
    """What a stream has sent. `cursor.attempt_id` names the attempt whose pieces the client holds.

    Every move gives a new position.
    """

    cursor: Cursor
    phase: Phase
    #: Status of the chat at `cursor.sequence`; before all from before the stream was sent, that at
    #: its beginning.
    status: Status
    #: Where the pieces that the client holds came from; None when they are not here.
    overlay: Overlay | None = None
    #: These pieces belong to an attempt that is open on another server.
    is_elsewhere: bool = False
    #: Newest attempt whose message was sent.
    done: AttemptId = NO_ATTEMPT


class Terms(msgspec.Struct, frozen=True):
    """What a stream was asked for, and what was there when it began."""

    deltas: bool
    until: frozenset[Status]
    #: Head of the log when the stream began.
    live_from: int
    #: The attempt that was open then, and its size.
    target: Overlay | None
    target_size: int

    def without_target(self) -> "Terms":
        """Return them for a stream that has caught up, which holds no attempt any more."""
        return Terms(self.deltas, self.until, self.live_from, None, 0)


class Pieces(msgspec.Struct, frozen=True, gc=False):
    """Send the pieces of an attempt from this place on."""

    overlay: Overlay
    offset: int


class Next(Enum):
    """What to do that is neither an event nor a piece."""

    READ = "read the log from this position"
    REFRESH = "read the log for everybody who is level"
    RESET = "send preview_reset"
    CAUGHT_UP = "send caught_up"
    WAIT = "wait until the chat changes"


Step: TypeAlias = LoggedEvent | Pieces | Next | StreamEndReason


# --- where a stream begins ------------------------------------------------------------------------


def terms(follow: Follow, state: ChatState, chat: LiveChat) -> Terms:
    """Return the terms of a stream that begins with this state of the chat."""
    overlay = _open_attempt(chat, state.head_sequence) if follow.deltas else None
    size = 0 if overlay is None else overlay.size
    target = overlay if size else None
    return Terms(follow.deltas, _UNTIL[follow.until], state.head_sequence, target, size)


def after_snapshot(state: ChatState) -> Position:
    """Return where a stream stands whose client gets a snapshot first."""
    cursor = Cursor(state.head_sequence, snapshot_unfinished=True)
    return Position(cursor, Phase.SNAPSHOT, state.status)


def after_cursor(cursor: Cursor, follow: Follow, state: ChatState, chat: LiveChat) -> Position:
    """Return where a stream stands that goes on at a cursor, which the store has accepted."""
    if not follow.deltas or not cursor.attempt_id:
        return Position(Cursor(cursor.sequence), Phase.REPLAY, state.status)
    overlay = chat.attempt
    if overlay is not None and overlay.attempt_id == cursor.attempt_id:
        held = Cursor(cursor.sequence, overlay.attempt_id, overlay.floor(cursor.delta_offset))
        return Position(held, Phase.REPLAY, state.status, overlay)
    attempt = state.turn and state.turn.attempt
    is_elsewhere = attempt is not None and attempt.id == cursor.attempt_id
    return Position(cursor, Phase.REPLAY, state.status, is_elsewhere=is_elsewhere)


# --- what comes next ------------------------------------------------------------------------------


def decide(at: Position, to: Terms, page: EventPage, chat: LiveChat) -> Step:
    """Say what a stream does next. `page` is what it has read of the log for itself."""
    if at.phase is Phase.LIVE:
        if to.until and at.status in to.until:
            return Next.RESET if _is_void(at, chat) else StreamEndReason.UNTIL_REACHED
    elif _has_caught_up(at, to):
        return Next.RESET if _is_void(at, chat) else Next.CAUGHT_UP
    sequence = at.cursor.sequence
    if chat.head > sequence or page.head_sequence > sequence:
        event = _event(page, sequence + 1) or chat.event(sequence + 1)
        if event is None:
            return Next.READ
        return _owed_before(event, at, to, chat) or event
    if chat.is_stale:
        return Next.WAIT if chat.is_refreshing else Next.REFRESH
    overlay = at.overlay
    # In the middle of the open attempt, as for nearly every token, the rest needs no asking.
    if overlay is not None and overlay.status is OverlayStatus.OPEN and overlay is chat.attempt:
        if at.cursor.delta_offset < overlay.size:
            return Pieces(overlay, at.cursor.delta_offset)
    elif _is_void(at, chat):
        return Next.RESET
    elif to.deltas and (owed := _live_pieces(at, chat)) is not None:
        return owed
    return StreamEndReason.CHAT_DELETED if chat.is_deleted else Next.WAIT


def _event(page: EventPage, sequence: int) -> LoggedEvent | None:
    events = page.events
    if not events:
        return None
    index = sequence - events[0].sequence
    return events[index] if 0 <= index < len(events) else None


def _open_attempt(chat: LiveChat, sequence: int) -> Overlay | None:
    """Return the attempt whose pieces may be sent at a place in the log."""
    overlay = chat.attempt
    if (
        overlay is None
        or overlay.status is not OverlayStatus.OPEN
        or overlay.base_sequence > sequence
    ):
        return None
    return overlay


def _live_pieces(at: Position, chat: LiveChat) -> Pieces | Next | None:
    """Return the pieces of the open attempt for a client that holds none of them yet, or holds
    some that it got elsewhere.
    """
    overlay = _open_attempt(chat, at.cursor.sequence)
    if overlay is None:
        return None
    offset = 0
    if at.cursor.attempt_id:
        if at.cursor.attempt_id != overlay.attempt_id:
            return Next.RESET
        offset = overlay.floor(at.cursor.delta_offset)
    return Pieces(overlay, offset) if offset < overlay.size else None


def _owed_before(
    event: LoggedEvent, at: Position, to: Terms, chat: LiveChat
) -> Pieces | Next | None:
    """Return what has to be sent before an event: the rest of the attempt that it commits."""
    committed = event.event
    if not to.deltas or not isinstance(committed, MessageCommitted):
        return None
    attempt_id, held = committed.attempt_id, at.cursor.attempt_id
    if not attempt_id or attempt_id == at.done:
        return None
    overlay, offset = at.overlay, 0
    if held == attempt_id:
        if overlay is None:
            if not at.is_elsewhere:
                return None  # cut before, and come back after it was committed
            overlay = chat.committed_attempt(event)
        offset = (
            at.cursor.delta_offset if overlay is None else overlay.floor(at.cursor.delta_offset)
        )
    else:
        overlay = chat.committed_attempt(event) if event.sequence > to.live_from else None
        if overlay is not None and held:
            return Next.RESET
    return None if overlay is None or offset >= overlay.size else Pieces(overlay, offset)


def _has_caught_up(at: Position, to: Terms) -> bool:
    """Say whether all was sent that was there when the stream began."""
    if at.cursor.sequence < to.live_from:
        return False
    target = to.target
    if target is None or target.status is OverlayStatus.VOID or target.attempt_id == at.done:
        return True
    return at.overlay is target and at.cursor.delta_offset >= to.target_size


def _is_void(at: Position, chat: LiveChat) -> bool:
    """Say whether the client holds pieces that nothing will follow."""
    if not at.cursor.attempt_id:
        return False
    overlay = at.overlay
    if overlay is not None:
        if overlay.status is OverlayStatus.OPEN:
            return False
        is_over = overlay.over_at is not None and overlay.over_at <= at.cursor.sequence
        return is_over or overlay.status is OverlayStatus.VOID
    if not at.is_elsewhere:
        return True
    newer = _open_attempt(chat, at.cursor.sequence)
    return newer is not None and newer.attempt_id != at.cursor.attempt_id


# --- what was sent --------------------------------------------------------------------------------


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
