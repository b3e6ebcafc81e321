"""A subscriber: a position in what its chat sends, and its times.

It has no queue. Whoever drives it (`hub.stream`) does what `decide` says, and moves the position.
"""

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import Cursor, LoggedEvent
from chatd_server.domain.ids import AttemptId, Instant
from chatd_server.domain.live import Follow, StreamEndReason
from chatd_server.hub import decide, position
from chatd_server.hub.chat import LiveChat, Waiter
from chatd_server.hub.decide import NOTHING_READ, Next, Step
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.position import Position, Terms
from chatd_server.ports.store import EventPage


class Reader(Waiter):
    """One subscriber."""

    __slots__ = (
        "_ends_at",
        "_interval",
        "_page",
        "_sent_at",
        "_terms",
        "at",
        "chat",
        "end",
        "is_closed",
        "is_due",
    )

    def __init__(self, chat: LiveChat, now: Instant, interval: int, ends_at: Instant) -> None:
        """Attach to a chat. `interval`: pause between heartbeats, in microseconds."""
        super().__init__()
        self.chat = chat
        #: What was sent. Level subscribers share one object.
        self.at: Position = position.NOWHERE
        self._terms: Terms = position.NO_TERMS
        #: What was read of the log for this reader alone.
        self._page = NOTHING_READ
        #: Set from outside: a heartbeat is due; the stream has to end; nobody reads any more.
        self.is_due = False
        self.end: StreamEndReason | None = None
        self.is_closed = False
        self._sent_at = now
        self._interval = interval
        self._ends_at = ends_at

    # --- where it stands -------------------------------------------------------------------------

    def begin_with_snapshot(self, follow: Follow, state: ChatState) -> None:
        """Begin after a snapshot; its cursors say that it is unfinished."""
        self._begin(follow, state)
        self.at = decide.after_snapshot(state)

    def begin_at(self, cursor: Cursor, follow: Follow, state: ChatState, page: EventPage) -> None:
        """Begin after a cursor. `page` is what the log has after it."""
        self._begin(follow, state)
        self.at = decide.after_cursor(cursor, state, self.chat)
        self._page = page

    def _begin(self, follow: Follow, state: ChatState) -> None:
        self.chat.read(state)
        self._terms = decide.terms(follow, state, self.chat)

    @property
    def cursor(self) -> Cursor:
        """The position up to which this stream has sent, as its client stores it."""
        return self.at.cursor

    def decide(self) -> Step:
        """Say what comes next."""
        if self.end is not None:
            return self.end
        return decide.decide(self.at, self._terms, self._page, self.chat)

    @property
    def is_owed(self) -> bool:
        """Whether it waits although there is something to send: nobody has woken it."""
        return self.is_waiting and self.decide() is not Next.WAIT

    # --- what happens ----------------------------------------------------------------------------

    def take(self, page: EventPage) -> None:
        """Take events that were read from the log after this position."""
        self._page = page

    def sent_event(self, event: LoggedEvent) -> None:
        """Move after a durable event."""
        self.at = position.after_event(self.at, self._terms, event)
        if event.sequence >= self._page.head_sequence:
            self._page = NOTHING_READ

    def sent_piece(self, overlay: Overlay, end: int) -> None:
        """Move after a piece."""
        self.at = position.after_piece(self.at, overlay, end)

    def sent_reset(self) -> AttemptId:
        """The client forgets its pieces; return of which attempt."""
        held = self.cursor.attempt_id
        self.at = position.after_reset(self.at)
        return held

    def sent_caught_up(self) -> None:
        """All from before the stream was sent."""
        self.at = position.after_catching_up(self.at)
        self._terms = self._terms.without_target()

    def close(self) -> None:
        """Nobody reads any more. The timer may hold this object a while; what is big goes now."""
        self.is_closed = True
        self.at, self._terms = position.NOWHERE, position.NO_TERMS
        self._page = NOTHING_READ

    # --- time ------------------------------------------------------------------------------------

    def sent(self, now: Instant) -> None:
        """Note that something was sent: no heartbeat is due for a while."""
        self._sent_at = now
        self.is_due = False

    @property
    def due_at(self) -> Instant:
        """When this stream has to be looked at although nothing happened."""
        return min(self._sent_at + self._interval, self._ends_at)

    def pulse(self, now: Instant) -> Instant:
        """Note what is due, and look again; return when the next look is due."""
        if now >= self._ends_at:
            self.end = self.end or StreamEndReason.MAX_DURATION
            self.wake()
        elif now >= self._sent_at + self._interval:
            self.is_due = True
            self.wake()
        # A reader whose response is on its way has not moved its own time yet.
        return self.due_at if self.due_at > now else now + self._interval

    def finish(self, reason: StreamEndReason) -> None:
        """Let the stream end."""
        self.end = reason
        self.wake()
