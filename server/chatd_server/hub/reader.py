"""A subscriber: its position in the chat's stream, and its timers.

It has no queue. `hub.stream` carries out each step that `decide` returns, and moves the position.
"""

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.event import Cursor, LoggedEvent
from chatd_server.domain.ids import AttemptId, Instant
from chatd_server.domain.live import Follow, StreamEndReason
from chatd_server.hub import decide, position
from chatd_server.hub.chat import LiveChat, Waiter
from chatd_server.hub.decide import NOTHING_READ, Next, Step
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.own_turn import OwnTurn
from chatd_server.hub.position import Phase, Position, Terms
from chatd_server.ports.store import EventPage

EARLY = 50_000
"""Microseconds by which a heartbeat may come early: readers that are due about the same time are
woken together, with one turn of the timer, and a write among others costs less than one alone."""


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
        "own_turn",
    )

    def __init__(self, chat: LiveChat, now: Instant, interval: int, ends_at: Instant) -> None:
        """Attach to a chat. `interval`: time between heartbeats, in microseconds."""
        super().__init__()
        self.chat = chat
        #: What was sent. Subscribers that are up to date share one object.
        self.at: Position = position.NOWHERE
        self._terms: Terms = position.NO_TERMS
        #: What was read from the log for this reader alone.
        self._page = NOTHING_READ
        #: Set from outside: a heartbeat is due; the stream must end; the client has gone.
        self.is_due = False
        #: The stream ends with the turn of one message.
        self.own_turn: OwnTurn | None = None
        self.end: StreamEndReason | None = None
        self.is_closed = False
        self._sent_at = now
        self._interval = interval
        self._ends_at = ends_at

    # --- where it stands -------------------------------------------------------------------------

    def begin_with_snapshot(self, follow: Follow, state: ChatState) -> None:
        """Begin with a snapshot; its cursors are marked as unfinished."""
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
        """The position up to which this stream has sent, for the client to store."""
        return self.at.cursor

    def decide(self) -> Step:
        """Return the next step."""
        if self.end is not None:
            return self.end
        if self.own_turn is not None and self._has_followed(self.own_turn):
            return decide.at_the_end(self.at, self.chat)
        return decide.decide(self.at, self._terms, self._page, self.chat)

    def _has_followed(self, turn: OwnTurn) -> bool:
        """Return whether the turn is over, or now waits for its client and that is the end."""
        at = self.at
        return turn.is_over or (
            turn.until_action
            and turn.has_begun
            and at.phase is Phase.LIVE
            and at.status is Status.REQUIRES_ACTION
        )

    @property
    def is_owed(self) -> bool:
        """Whether it waits although there is something to send: a missed wake-up."""
        return self.is_waiting and self.decide() is not Next.WAIT

    # --- what happens ----------------------------------------------------------------------------

    def take(self, page: EventPage) -> None:
        """Keep events that were read from the log after this position."""
        self._page = page

    def sent_event(self, event: LoggedEvent) -> None:
        """Move past a durable event."""
        self.at = position.after_event(self.at, self._terms, event)
        if self.own_turn is not None:
            self.own_turn.observe(event)
        if event.sequence >= self._page.head_sequence:
            self._page = NOTHING_READ

    def sent_piece(self, overlay: Overlay, end: int) -> None:
        """Move past a piece."""
        self.at = position.after_piece(self.at, overlay, end)

    def sent_reset(self) -> AttemptId:
        """Note that the client drops its pieces; return the attempt that they belong to."""
        held = self.cursor.attempt_id
        self.at = position.after_reset(self.at)
        return held

    def sent_caught_up(self) -> None:
        """Note that everything from before the start of the stream was sent."""
        self.at = position.after_catching_up(self.at)
        self._terms = self._terms.without_target()

    def close(self) -> None:
        """Note that the client has gone. The timer may keep this object, so free large data now."""
        self.is_closed = True
        self.chat.no_longer_waiting(self)
        self.at, self._terms = position.NOWHERE, position.NO_TERMS
        self._page = NOTHING_READ

    # --- time ------------------------------------------------------------------------------------

    def sent(self, now: Instant) -> None:
        """Note that something was sent, which postpones the heartbeat."""
        self._sent_at = now
        self.is_due = False

    @property
    def due_at(self) -> Instant:
        """When this stream must be checked even if nothing has happened."""
        return min(self._sent_at + self._interval, self._ends_at)

    def pulse(self, now: Instant) -> Instant:
        """Wake the reader if it is due or will be soon; return when it is due next."""
        soon = now + EARLY
        if soon >= self._ends_at:
            self.end = self.end or StreamEndReason.MAX_DURATION
            self._wake_alone()
        elif soon >= self._sent_at + self._interval:
            self.is_due = True
            self._wake_alone()
        # A reader that is sending a response has not updated its own time yet.
        return self.due_at if self.due_at > soon else now + self._interval

    def finish(self, reason: StreamEndReason) -> None:
        """End the stream with this reason."""
        self.end = reason
        self._wake_alone()

    def _wake_alone(self) -> None:
        """Wake this reader and no other one of the chat."""
        self.wake()
        self.chat.no_longer_waiting(self)
