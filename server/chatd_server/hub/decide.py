"""Decides where a stream starts and what it sends next: pure functions of what this process knows.

The rules, in the order in which `decide` applies them:

1. A stream that must end ends; before that, pieces that nothing will follow are reset.
2. Durable events go first, in order. Before the event that commits an attempt, its missing pieces
   are sent, so the pieces of a connected subscriber always add up to the message.
3. Once up to date with the log: pieces of a finished attempt are reset, then the pieces of the
   open attempt follow.
"""

from enum import Enum
from typing import TypeAlias

import msgspec

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.event import Cursor, LoggedEvent, MessageCommitted
from chatd_server.domain.live import Follow, StreamEndReason, Until
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.overlay import Overlay, OverlayStatus
from chatd_server.hub.position import Phase, Position, Terms
from chatd_server.ports.store import EventPage

NOTHING_READ = EventPage((), 0, 0)
"""The page of a reader that has read nothing for itself."""

_UNTIL: dict[Until, frozenset[Status]] = {
    Until.FOREVER: frozenset(),
    Until.SETTLED: frozenset({Status.WAITING, Status.ERROR}),
    Until.ACTION_OR_SETTLED: frozenset({Status.WAITING, Status.ERROR, Status.REQUIRES_ACTION}),
}


class Pieces(msgspec.Struct, frozen=True, gc=False):
    """Send the pieces of an attempt from this offset on."""

    overlay: Overlay
    offset: int


class Next(Enum):
    """An action other than sending an event or a piece."""

    READ = "read the log from this position"
    REFRESH = "read the log for all readers that are up to date"
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
    """Return the start position of a stream that sends a snapshot first."""
    cursor = Cursor(state.head_sequence, snapshot_unfinished=True)
    return Position(cursor, Phase.SNAPSHOT, state.status)


def after_cursor(cursor: Cursor, state: ChatState, chat: LiveChat) -> Position:
    """Return the start position of a stream that resumes at a cursor accepted by the store."""
    if not cursor.attempt_id:
        return Position(Cursor(cursor.sequence), Phase.REPLAY, state.status)
    overlay = chat.attempts.current
    if overlay is not None and overlay.attempt_id == cursor.attempt_id:
        held = Cursor(cursor.sequence, overlay.attempt_id, overlay.floor(cursor.delta_offset))
        return Position(held, Phase.REPLAY, state.status, overlay)
    attempt = state.turn and state.turn.attempt
    is_elsewhere = attempt is not None and attempt.id == cursor.attempt_id
    return Position(cursor, Phase.REPLAY, state.status, is_elsewhere=is_elsewhere)


# --- what comes next ------------------------------------------------------------------------------


def decide(at: Position, to: Terms, page: EventPage, chat: LiveChat) -> Step:
    """Return the next step of a stream. `page` is what it has read from the log for itself."""
    if at.phase is Phase.LIVE:
        if to.until and at.status in to.until:
            return at_the_end(at, chat)
    elif _has_caught_up(at, to):
        return Next.RESET if _is_void(at, chat) else Next.CAUGHT_UP
    sequence = at.cursor.sequence
    if chat.tail.head > sequence or page.head_sequence > sequence:
        event = _event(page, sequence + 1) or chat.event(sequence + 1)
        if event is None:
            return Next.READ
        return _owed_before(event, at, to, chat) or event
    if chat.is_stale:
        return Next.WAIT if chat.is_refreshing else Next.REFRESH
    overlay = at.overlay
    # Within the open attempt, as for nearly every token, no further checks are needed.
    if (
        to.deltas
        and overlay is not None
        and overlay is chat.attempts.current
        and overlay.status is OverlayStatus.OPEN
    ):
        offset = at.cursor.delta_offset
        if offset < overlay.size:
            return Pieces(overlay, offset)
    elif _is_void(at, chat):
        return Next.RESET
    elif to.deltas and (owed := _live_pieces(at, chat)) is not None:
        return owed
    return StreamEndReason.CHAT_DELETED if chat.is_deleted else Next.WAIT


def at_the_end(at: Position, chat: LiveChat) -> Step:
    """Return the step of a stream that has sent all that it was asked for."""
    return Next.RESET if _is_void(at, chat) else StreamEndReason.UNTIL_REACHED


def _event(page: EventPage, sequence: int) -> LoggedEvent | None:
    events = page.events
    if not events:
        return None
    index = sequence - events[0].sequence
    return events[index] if 0 <= index < len(events) else None


def _open_attempt(chat: LiveChat, sequence: int) -> Overlay | None:
    """Return the attempt whose pieces may be sent after this sequence."""
    overlay = chat.attempts.current
    if (
        overlay is None
        or overlay.status is not OverlayStatus.OPEN
        or overlay.base_sequence > sequence
    ):
        return None
    return overlay


def _live_pieces(at: Position, chat: LiveChat) -> Pieces | Next | None:
    """Return the pieces of the open attempt for a client that holds none of them, or holds some
    that another server sent.
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
    """Return what must be sent before an event: the rest of the attempt that it commits."""
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
                return None  # disconnected before the commit, resumed after it
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
    """Return whether everything that existed when the stream began was sent."""
    if at.cursor.sequence < to.live_from:
        return False
    target = to.target
    if target is None or target.status is OverlayStatus.VOID or target.attempt_id == at.done:
        return True
    return at.overlay is target and at.cursor.delta_offset >= to.target_size


def _is_void(at: Position, chat: LiveChat) -> bool:
    """Return whether the client holds pieces that nothing will follow."""
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
