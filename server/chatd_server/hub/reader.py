"""A subscriber: a position in what its chat sends, and the rules for what comes next.

`decide` looks at the position and at what is there, and never waits. Whoever drives the reader
(`hub.stream`) does what was decided and reports it with one of the `sent_` methods.

The rules, in the order in which `decide` asks them:

1. A stream that has to end ends.
2. Durable events go first, in order. Before the event that commits an attempt, its missing
   pieces go; so the pieces of a connected subscriber always add up to the message.
3. Level with the log: pieces of a void attempt are taken back, then the open attempt goes on.
"""

from enum import Enum
from typing import TypeAlias

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.event import Cursor, LoggedEvent, MessageCommitted, StatusChanged
from chatd_server.domain.ids import AttemptId, Instant
from chatd_server.domain.live import Follow, Piece, StreamEndReason, Until
from chatd_server.hub.chat import LiveChat, Waiter, closing
from chatd_server.hub.overlay import Overlay, OverlayStatus
from chatd_server.ports import EventPage


class Next(Enum):
    """What to do that is neither an event nor a piece."""

    READ = "read the log from this position"
    REFRESH = "read the log for everybody who is level"
    RESET = "send preview_reset"
    CAUGHT_UP = "send caught_up"
    HEARTBEAT = "send a heartbeat"
    WAIT = "wait until the chat changes"


Step: TypeAlias = LoggedEvent | Piece | Next | StreamEndReason

_UNTIL: dict[Until, frozenset[Status]] = {
    Until.FOREVER: frozenset(),
    Until.SETTLED: frozenset({Status.WAITING, Status.ERROR}),
    Until.ACTION_OR_SETTLED: frozenset({Status.WAITING, Status.ERROR, Status.REQUIRES_ACTION}),
}


class Reader(Waiter):
    """One subscriber's position."""

    __slots__ = (
        "_done",
        "_elsewhere",
        "_known_head",
        "_live_from",
        "_offset",
        "_page",
        "_shown",
        "_status",
        "_target",
        "_target_size",
        "_unfinished",
        "beat",
        "caught_up",
        "chat",
        "closed",
        "deltas",
        "end",
        "ends_at",
        "interval",
        "overlay",
        "sent_at",
        "sequence",
        "until",
    )

    def __init__(
        self, chat: LiveChat, follow: Follow, now: Instant, interval: int, ends_at: Instant
    ) -> None:
        super().__init__()
        self.chat = chat
        self.deltas = follow.deltas
        self.until = _UNTIL[follow.until]
        #: Newest durable event that was sent.
        self.sequence = 0
        #: The attempt whose pieces are being sent.
        self.overlay: Overlay | None = None
        #: The attempt of which the client holds pieces that are not committed.
        self._shown = AttemptId("")
        self._offset = 0
        #: The attempt shown is open, but on another replica.
        self._elsewhere = False
        #: Newest attempt whose committing event was sent.
        self._done = AttemptId("")
        #: Events read from the log for this reader alone, next one last.
        self._page: list[LoggedEvent] = []
        self._known_head = 0
        #: Head of the log when the stream began, and the attempt that was open then.
        self._live_from = 0
        self._target: Overlay | None = None
        self._target_size = 0
        self._unfinished = False
        #: Status of the chat at `sequence`, once everything from before the stream was sent.
        self._status = Status.PENDING
        self.caught_up = False
        #: Set from outside: a heartbeat is due; the stream has to end; nobody reads any more.
        self.beat = False
        self.end: StreamEndReason | None = None
        self.closed = False
        #: When something was last sent; pause between heartbeats, in microseconds.
        self.sent_at = now
        self.interval = interval
        self.ends_at = ends_at

    # --- where it begins -----------------------------------------------------------------------

    def begin_with_snapshot(self, state: ChatState) -> None:
        """Begin behind a snapshot; its cursors say that it is unfinished."""
        self._unfinished = True
        self._begin(state)
        self.sequence = state.head_sequence

    def begin_at(self, cursor: Cursor, state: ChatState) -> None:
        """Begin behind a cursor that the store has accepted."""
        self._begin(state)
        self.sequence = cursor.sequence
        if not self.deltas or not cursor.attempt_id:
            return
        self._shown = cursor.attempt_id
        self._offset = cursor.delta_offset
        overlay = self.chat.overlay
        if overlay is not None and overlay.attempt_id == cursor.attempt_id:
            self.overlay = overlay
            self._offset = overlay.floor(cursor.delta_offset)
        else:
            attempt = state.turn and state.turn.attempt
            self._elsewhere = attempt is not None and attempt.id == cursor.attempt_id

    def _begin(self, state: ChatState) -> None:
        self.chat.begin_at(state.head_sequence, state.revision)
        self._known_head = self._live_from = state.head_sequence
        self._status = state.status
        overlay = self.chat.overlay
        if self.deltas and overlay is not None and overlay.size:
            self._target, self._target_size = overlay, overlay.size

    def take(self, page: EventPage) -> None:
        """Take events that were read from the log behind this position."""
        self._known_head = max(self._known_head, page.head_sequence)
        self._page = list(reversed(page.events))

    # --- what comes next -----------------------------------------------------------------------

    @property
    def follows_open_attempt(self) -> bool:
        """Whether `decide` could only answer with a piece of the open attempt, a heartbeat, the
        end of a deleted chat, or a wait. It is so for nearly every delta, and quick to ask.
        """
        chat = self.chat
        return (
            self.overlay is not None
            and self.overlay is chat.overlay
            and chat.head <= self.sequence
            and self._known_head <= self.sequence
            and not chat.stale
            and self.caught_up
            and self.end is None
            and self._status not in self.until
        )

    def decide(self) -> Step:
        """Say what to do next. Only what was looked at changes, never what was sent."""
        if self.end is not None:
            return self.end
        if self.caught_up:
            if self._status in self.until:
                return Next.RESET if self._is_void() else StreamEndReason.UNTIL_REACHED
        elif self._has_caught_up():
            return Next.RESET if self._is_void() else Next.CAUGHT_UP
        event = self._event()
        if event is not None:
            return self._owed(event) or event
        return self._live()

    def _live(self) -> Step:
        chat = self.chat
        if chat.head > self.sequence or self._known_head > self.sequence:
            return Next.READ
        if chat.stale:
            return Next.WAIT if chat.refreshing else Next.REFRESH
        overlay = chat.overlay
        if overlay is not None and overlay.attempt_id != self._shown:
            self._elsewhere = False
        if self._is_void():
            return Next.RESET
        if overlay is not None and self.deltas and overlay.base_sequence <= self.sequence:
            if self.overlay is not overlay:
                self.overlay, self._offset = overlay, 0
            piece = overlay.piece(self._offset)
            if piece is not None:
                return piece
        if chat.deleted:
            return StreamEndReason.CHAT_DELETED
        return Next.HEARTBEAT if self.beat else Next.WAIT

    def _event(self) -> LoggedEvent | None:
        wanted = self.sequence + 1
        page = self._page
        while page and page[-1].sequence < wanted:
            page.pop()
        if page and page[-1].sequence == wanted:
            return page[-1]
        return self.chat.event(wanted)

    def _owed(self, event: LoggedEvent) -> Step | None:
        """Return what has to be sent before an event: the rest of the attempt it commits."""
        committed = event.event
        if not self.deltas or not isinstance(committed, MessageCommitted):
            return None
        attempt_id = committed.attempt_id
        if not attempt_id or attempt_id == self._done:
            return None
        if self.overlay is None or self.overlay.attempt_id != attempt_id:
            if self._shown == attempt_id:
                if not self._elsewhere:
                    return None  # cut before, and come back after it was committed
            elif event.sequence <= self._live_from:
                return None
            overlay = self.chat.committed_overlay(event)
            if overlay is None:
                return None
            if self._shown and self._shown != attempt_id:
                return Next.RESET
            self._offset = overlay.floor(self._offset) if self._shown else 0
            self.overlay = overlay
        return self.overlay.piece(self._offset)

    def _has_caught_up(self) -> bool:
        """Say whether all was sent that was there when the stream began."""
        if self.sequence < self._live_from:
            return False
        target = self._target
        if target is None or target.status is OverlayStatus.VOID:
            return True
        if target.attempt_id == self._done:
            return True
        return self.overlay is target and self._offset >= self._target_size

    def _is_void(self) -> bool:
        """Say whether the client holds pieces that nothing will follow."""
        if not self._shown or self._elsewhere:
            return False
        overlay = self.overlay
        return (
            overlay is None
            or overlay.attempt_id != self._shown
            or overlay.status is OverlayStatus.VOID
        )

    # --- what was sent -------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """Place in the attempt whose pieces are being sent."""
        return self._offset

    @property
    def cursor(self) -> Cursor:
        """The position up to which this stream has sent."""
        offset = self._offset if self._shown else 0
        return Cursor(self.sequence, self._shown, offset, self._unfinished)

    def sent_event(self, event: LoggedEvent) -> None:
        """Move behind a durable event."""
        self.sequence = event.sequence
        if self._page and self._page[-1] is event:
            self._page.pop()
        logged = event.event
        if isinstance(logged, StatusChanged) and event.sequence > self._live_from:
            self._status = logged.status
        if isinstance(logged, MessageCommitted) and logged.attempt_id:
            self._done = logged.attempt_id
            if self.overlay is not None and self.overlay.attempt_id == logged.attempt_id:
                self.overlay = None
        if self._shown:
            became = closing(logged, self._shown)
            if became is OverlayStatus.COMMITTED:
                self._shown, self._offset, self._elsewhere = AttemptId(""), 0, False
            elif became is OverlayStatus.VOID:
                self._elsewhere = False

    def sent_piece(self, piece: Piece) -> AttemptId:
        """Move behind a piece; return the attempt that it belongs to."""
        assert self.overlay is not None
        self._offset = piece.end
        self._shown = self.overlay.attempt_id
        return self._shown

    def sent_reset(self) -> AttemptId:
        """The client forgets its pieces; return of which attempt."""
        shown, self._shown = self._shown, AttemptId("")
        self._offset, self._elsewhere, self.overlay = 0, False, None
        return shown

    def sent_caught_up(self) -> None:
        """All from before the stream was sent."""
        self.caught_up, self._unfinished, self._target = True, False, None

    def close(self) -> None:
        """Nobody reads any more. The timer may hold this object a while; what is big goes now."""
        self.closed = True
        self.overlay = self._target = None
        self._page = []

    # --- time ----------------------------------------------------------------------------------

    @property
    def due_at(self) -> Instant:
        """When this stream has to be looked at although nothing happened."""
        return min(self.sent_at + self.interval, self.ends_at)

    def pulse(self, now: Instant) -> None:
        """Note what is due, and look again."""
        if now >= self.ends_at:
            self.end = self.end or StreamEndReason.MAX_DURATION
        elif now >= self.sent_at + self.interval:
            self.beat = True
        else:
            return
        self.wake()
