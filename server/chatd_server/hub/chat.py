"""What this process knows of one chat that somebody follows or works on.

It exists only while a subscriber is attached or an attempt is open; an idle chat has none. It
has no timer, no task and no queue of a reader. Everything that happens to it is one of its
methods: a subscriber attaches, reads and detaches, a commit or a hint arrives, an attempt opens,
grows and ends. Nothing else changes it.
"""

import asyncio
from collections.abc import Callable

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import AttemptId, ChatId
from chatd_server.hub.attempts import Attempts
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.responses import Responses
from chatd_server.hub.tail import Tail
from chatd_server.ports.store import Applied, EventPage


class Waiter:
    """Somebody who may wait for a chat to change. One future at a time, and only while waiting."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: asyncio.Future[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it waits, and nobody has woken it."""
        return self._woken is not None and not self._woken.done()

    def wake(self) -> None:
        """End the wait, if there is one."""
        woken = self._woken
        if woken is not None and not woken.done():
            woken.set_result(None)

    async def wait(self, chat: "LiveChat") -> None:
        """Wait until the chat changes, or until `wake`."""
        self._woken = woken = asyncio.get_running_loop().create_future()
        chat.now_waiting(self)
        try:
            await woken
        finally:
            self._woken = None
            chat.no_longer_waiting(self)


class LiveChat:
    """One chat in this process. `when_idle` is called when nothing needs it any more."""

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
        #: Newest revision that a commit or a hint named.
        self._revision = 0
        #: The log has, or may have, events after `head`.
        self.is_stale = False
        #: A reader is reading them for everybody.
        self.is_refreshing = False
        self.is_deleted = False
        #: Counts reasons to read the log again.
        self.moves = 0
        #: How many streams and watches there are.
        self.attached = 0
        self._waiting: dict[Waiter, None] = {}

    # --- what a reader asks ----------------------------------------------------------------------

    @property
    def head(self) -> int:
        """Newest sequence of which this process knows; 0 when nobody has asked yet."""
        return self.tail.head

    def event(self, sequence: int) -> LoggedEvent | None:
        """Return an event, if it is among the newest that are kept."""
        return self.tail.event(sequence)

    def committed_attempt(self, event: LoggedEvent) -> Overlay | None:
        """Return the attempt that a committed message closes, for a reader that holds none of
        it; None when its pieces were never shown here and can not be made from the message.
        """
        is_recent = self.tail.event(event.sequence) is not None
        return self.attempts.committed(event, is_recent=is_recent)

    # --- subscribers -----------------------------------------------------------------------------

    def attach(self) -> None:
        """A stream or a watch begins; call it before the store is read."""
        self.attached += 1

    def detach(self) -> None:
        """A stream or a watch ends."""
        self.attached -= 1
        if self.attached:
            return
        # Nobody is told of commits from now on, so what is known of the log is out of date.
        self._forget_for_slow()
        self.tail.head = 0
        self.is_stale = False
        self._look_idle()

    def read(self, state: ChatState) -> None:
        """A reader has read the state of the chat from the store."""
        self.attempts.read(state)
        if self.tail.head == 0:
            self.tail.head = state.head_sequence
            self._revision = max(self._revision, state.revision)
        elif state.head_sequence > self.tail.head:
            self.mark_stale()

    def observe(self, event: LoggedEvent) -> None:
        """A reader has read an event that others may have read before."""
        if self.attempts.observe(event):
            self.wake()

    # --- commits and hints -----------------------------------------------------------------------

    def committed(self, applied: Applied) -> None:
        """A commit of this process; they come in order."""
        state = applied.state
        self._revision = max(self._revision, state.revision)
        if not self.attached:
            for event in applied.events:
                self.attempts.observe(event)
            self._look_idle()
            return
        self._add(applied.events)
        if 0 < self.tail.head < state.head_sequence:
            self.mark_stale()  # another process wrote in between
        if state.deleted:
            self.is_deleted = True
            self.wake()

    def hinted(self, revision: int) -> None:
        """Some process has committed this revision."""
        if revision > self._revision:
            self._revision = revision
            self.mark_stale()

    def mark_stale(self) -> None:
        """The log may have more: let the next reader read it for everybody."""
        self.is_stale = True
        self.moves += 1
        self.wake()

    # --- reading the log for everybody -----------------------------------------------------------

    def refresh_begins(self) -> int:
        """One reader reads the log for everybody; return from where."""
        self.is_refreshing, self.is_stale = True, False
        return self.tail.head

    def refreshed(self, page: EventPage) -> bool:
        """Take a page; say whether another one follows."""
        before = self.tail.head
        self._add(page.events)
        return before < self.tail.head < page.head_sequence

    def refresh_ends(self, *, failed: bool = False, is_deleted: bool = False) -> None:
        """The log was read, or the reader that did it is gone, or the store is."""
        self.is_refreshing = False
        self.is_stale = self.is_stale or failed
        self.is_deleted = self.is_deleted or is_deleted
        self.wake()

    # --- the attempt -----------------------------------------------------------------------------

    def open_attempt(self, attempt_id: AttemptId, base_sequence: int) -> Overlay:
        """A worker of this process begins an attempt; one that is still open is void."""
        replaces = self.attempts.current is not None
        overlay = self.attempts.open(attempt_id, base_sequence)
        if 0 < self.tail.head < base_sequence:
            self.mark_stale()
        elif replaces:
            self.wake()
        return overlay

    def void_attempt(self, overlay: Overlay) -> None:
        """A worker abandons an attempt; nothing happens when the log has closed it before."""
        if self.attempts.void(overlay):
            self.wake()
            self._look_idle()

    # --- waiting ---------------------------------------------------------------------------------

    def now_waiting(self, waiter: Waiter) -> None:
        """Note one who waits. When all do, all are level, and what was kept for them can go."""
        self._waiting[waiter] = None
        if len(self._waiting) == self.attached:
            self._forget_for_slow()

    def no_longer_waiting(self, waiter: Waiter) -> None:
        """Note that one does not wait any more."""
        self._waiting.pop(waiter, None)

    def wake(self) -> None:
        """Wake all readers that wait; a reader that is sending looks again by itself."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for waiter in waiting:
                waiter.wake()

    # --- inside ----------------------------------------------------------------------------------

    def _add(self, events: tuple[LoggedEvent, ...]) -> None:
        """Take events in order; from one on that does not follow, they are read from the log."""
        follows = True
        for event in events:
            self.attempts.observe(event)
            follows = follows and self.tail.add(event)
        if events:
            self.moves += 1
            self.wake()

    def _forget_for_slow(self) -> None:
        """Drop what is kept only for slow readers."""
        self.tail.forget_events()
        self.attempts.forget_committed()
        self.responses.forget()

    def _look_idle(self) -> None:
        if not self.attached and self.attempts.current is None:
            self._when_idle(self)
