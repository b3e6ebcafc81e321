"""What this process knows about one chat that is followed or worked on.

It exists only while a subscriber is attached or an attempt is open; an idle chat has none. It has
no timer, no task and no queue per reader. Only its methods change it: a subscriber attaches, reads
and detaches, a commit or a hint arrives, an attempt opens, grows and ends.
"""

import asyncio
from collections.abc import Callable

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import ChatDeleted, LoggedEvent
from chatd_server.domain.ids import AttemptId, ChatId
from chatd_server.hub.attempts import Attempts
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.responses import Responses
from chatd_server.hub.tail import Tail
from chatd_server.ports.store import Applied, EventPage


class Waiter:
    """Waits for a chat to change. Has one future at a time, and only while it waits."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: asyncio.Future[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it waits and was not woken."""
        return self._woken is not None and not self._woken.done()

    def wake(self) -> None:
        woken = self._woken
        if woken is not None and not woken.done():
            woken.set_result(None)

    def changed(self, chat: "LiveChat") -> asyncio.Future[None]:
        """Return a future that is done when the chat changes, or after `wake`. Whoever does not
        wait for it to the end calls `chat.no_longer_waiting`.
        """
        self._woken = woken = asyncio.get_running_loop().create_future()
        chat.now_waiting(self)
        return woken


class LiveChat:
    """One chat in this process. `when_idle` is called when it is no longer needed."""

    __slots__ = (
        "_revision",
        "_waiting",
        "_when_idle",
        "attached",
        "attempts",
        "chat_id",
        "is_deleted",
        "is_refreshing",
        "is_stale",
        "moves",
        "responses",
        "tail",
    )

    def __init__(self, chat_id: ChatId, when_idle: Callable[["LiveChat"], None]) -> None:
        self.chat_id = chat_id
        self._when_idle = when_idle
        self.tail = Tail()
        self.attempts = Attempts()
        self.responses = Responses()
        #: Newest revision seen in a commit or a hint.
        self._revision = 0
        #: The log has, or may have, events after `head`.
        self.is_stale = False
        #: A reader is reading these events for all readers.
        self.is_refreshing = False
        self.is_deleted = False
        #: Counts the reasons to read the log again.
        self.moves = 0
        #: Number of streams and watches.
        self.attached = 0
        self._waiting: dict[Waiter, None] = {}

    # --- what a reader asks ----------------------------------------------------------------------

    @property
    def head(self) -> int:
        """Newest known sequence; 0 before the first read."""
        return self.tail.head

    def event(self, sequence: int) -> LoggedEvent | None:
        """Return an event, if it is still kept."""
        return self.tail.event(sequence)

    def committed_attempt(self, event: LoggedEvent) -> Overlay | None:
        """Return the attempt that a committed message closes, for a reader that holds none of it;
        None if it was not shown here and cannot be rebuilt from the message.
        """
        is_recent = self.tail.event(event.sequence) is not None
        return self.attempts.committed(event, is_recent=is_recent)

    # --- subscribers -----------------------------------------------------------------------------

    def attach(self) -> None:
        """Count a new stream or watch; call it before the store is read."""
        self.attached += 1

    def detach(self) -> None:
        """Count the end of a stream or watch."""
        self.attached -= 1
        if self.attached:
            return
        # From now on commits are not reported here, so what is known about the log goes stale.
        self._forget_for_slow()
        self.tail.head = 0
        self.is_stale = False
        self._look_idle()

    def read(self, state: ChatState) -> None:
        """Process a chat state that a reader has read from the store."""
        self.attempts.read(state)
        if self.tail.head == 0:
            self.tail.head = state.head_sequence
            self._revision = max(self._revision, state.revision)
        elif state.head_sequence > self.tail.head:
            self.mark_stale()

    def observe(self, event: LoggedEvent) -> None:
        """Process an event that a reader has read; other readers may have read it before."""
        if self._learn(event):
            self.wake()

    # --- commits and hints -----------------------------------------------------------------------

    def committed(self, applied: Applied) -> None:
        """Process a commit of this process. Commits arrive in order."""
        state = applied.state
        self._revision = max(self._revision, state.revision)
        if not self.attached:
            for event in applied.events:
                self._learn(event)
            self._look_idle()
            return
        self._add(applied.events)
        if 0 < self.tail.head < state.head_sequence:
            self.mark_stale()  # another process wrote in between

    def hinted(self, revision: int) -> None:
        """Process a hint that some process has committed this revision."""
        if revision > self._revision:
            self._revision = revision
            self.mark_stale()

    def mark_stale(self) -> None:
        """Mark that the log may have more: the next reader reads it for all readers."""
        self.is_stale = True
        self.moves += 1
        self.wake()

    # --- reading the log for everybody -----------------------------------------------------------

    def refresh_begins(self) -> int:
        """Begin to read the log for all readers; return the sequence to start after."""
        self.is_refreshing, self.is_stale = True, False
        return self.tail.head

    def refreshed(self, page: EventPage) -> bool:
        """Add a page; return whether another one follows."""
        before = self.tail.head
        self._add(page.events)
        return before < self.tail.head < page.head_sequence

    def refresh_ends(self, *, failed: bool = False, is_deleted: bool = False) -> None:
        """End the read, also if the reader left or the store failed."""
        self.is_refreshing = False
        self.is_stale = self.is_stale or failed
        self.is_deleted = self.is_deleted or is_deleted
        self.wake()

    # --- the attempt -----------------------------------------------------------------------------

    def open_attempt(self, attempt_id: AttemptId, base_sequence: int) -> Overlay:
        """Open an attempt of a worker of this process; voids one that is still open."""
        replaces = self.attempts.current is not None
        overlay = self.attempts.open(attempt_id, base_sequence)
        if 0 < self.tail.head < base_sequence:
            self.mark_stale()
        elif replaces:
            self.wake()
        return overlay

    def void_attempt(self, overlay: Overlay) -> None:
        """Void an abandoned attempt, unless the log has closed it."""
        if self.attempts.void(overlay):
            self.wake()
            self._look_idle()

    # --- waiting ---------------------------------------------------------------------------------

    def now_waiting(self, waiter: Waiter) -> None:
        """Add a waiter. If all readers wait, all are up to date: drop what was kept for them."""
        self._waiting[waiter] = None
        if len(self._waiting) == self.attached:
            self._forget_for_slow()

    def no_longer_waiting(self, waiter: Waiter) -> None:
        self._waiting.pop(waiter, None)

    def wake(self) -> None:
        """Wake all waiting readers; a reader that is sending checks again by itself."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for waiter in waiting:
                waiter.wake()

    # --- inside ----------------------------------------------------------------------------------

    def _add(self, events: tuple[LoggedEvent, ...]) -> None:
        """Add events in order. After a gap, readers read the events from the log."""
        follows = True
        for event in events:
            self._learn(event)
            follows = follows and self.tail.add(event)
        if events:
            self.moves += 1
            self.wake()

    def _learn(self, event: LoggedEvent) -> bool:
        """Learn from an event what is over; return whether anything changed."""
        if isinstance(event.event, ChatDeleted):
            self.is_deleted = True
        return self.attempts.observe(event)

    def _forget_for_slow(self) -> None:
        """Drop what is kept for slow readers only."""
        self.tail.forget_events()
        self.attempts.forget_committed()
        self.responses.forget()

    def _look_idle(self) -> None:
        if not self.attached and self.attempts.current is None:
            self._when_idle(self)
