"""What this process knows of one chat that somebody follows or works on.

It exists only while a subscriber is attached or an attempt is open; an idle chat has none. It
has no timer, no task and no queue of a reader: only the newest part of the log, the open
attempt, and who waits.
"""

import asyncio

from chatd_server.domain.chat import Status
from chatd_server.domain.event import (
    Cursor,
    Event,
    LoggedEvent,
    MessageCommitted,
    RetryScheduled,
    StatusChanged,
)
from chatd_server.domain.ids import AttemptId, ChatId
from chatd_server.domain.limits import MIB
from chatd_server.domain.live import Piece
from chatd_server.domain.message import Part, Reasoning, Role, Text, ToolCall, ToolResult
from chatd_server.hub.overlay import Overlay, OverlayStatus

TAIL_EVENTS_MAX = 32
"""Newest events kept for readers that are nearly level: about four steps with tools. Behind them
the log is read."""
TAIL_BYTES_MAX = MIB
"""Bytes of these events, and of closed attempts: one long answer, or many ordinary ones."""
CLOSED_MAX = 4
"""Committed attempts kept for readers that had not begun them when they were committed."""
FRAMES_MAX = 8
"""Newest responses kept as bytes. Level readers all ask for the newest one or two."""
FRAMES_BYTES_MAX = MIB
"""Bytes of these responses; the newest is kept in any case."""

_WORKING = frozenset({Status.RUNNING, Status.INTERRUPTING})
_EVENT_BYTES = 256


class Waiter:
    """Somebody who may wait for a chat to change. One future at a time, and only while waiting."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: asyncio.Future[None] | None = None

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
            chat.waiting.pop(self, None)


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


class LiveChat:
    """One chat in this process."""

    __slots__ = (
        "attached",
        "chat_id",
        "closed",
        "deleted",
        "frames",
        "frames_bytes",
        "head",
        "moves",
        "newest",
        "overlay",
        "refreshing",
        "revision",
        "stale",
        "tail",
        "tail_bytes",
        "waiting",
    )

    def __init__(self, chat_id: ChatId) -> None:
        self.chat_id = chat_id
        #: Newest sequence of which this process knows; 0 when nobody has asked yet. `tail` ends
        #: with it.
        self.head = 0
        self.tail: list[LoggedEvent] = []
        self.tail_bytes = 0
        #: Newest revision that a commit or a hint named.
        self.revision = 0
        #: The log has, or may have, events behind `head`.
        self.stale = False
        #: A reader is reading them for everybody.
        self.refreshing = False
        #: Counts reasons to read the log again.
        self.moves = 0
        self.deleted = False
        self.overlay: Overlay | None = None
        self.closed: dict[AttemptId, Overlay] = {}
        #: Newest events as responses, by the cursor behind them.
        self.frames: dict[Cursor, bytes] = {}
        self.frames_bytes = 0
        #: The newest piece of the open attempt, for readers at the same position.
        self.newest: NewestPiece | None = None
        #: Streams and watches.
        self.attached = 0
        self.waiting: dict[Waiter, None] = {}

    # --- waiting -------------------------------------------------------------------------------

    def now_waiting(self, waiter: Waiter) -> None:
        """Note one who waits. When all do, all are level, and what was kept for them can go."""
        self.waiting[waiter] = None
        if len(self.waiting) == self.attached:
            self.forget()

    def wake(self) -> None:
        """Wake everybody who waits; whoever is sending looks again by itself."""
        if self.waiting:
            waiting, self.waiting = self.waiting, {}
            for waiter in waiting:
                waiter.wake()

    def forget(self) -> None:
        """Drop what is kept only for readers that are behind."""
        if self.tail:
            self.tail = []
            self.tail_bytes = 0
        if self.closed:
            self.closed = {}
        self.newest = None
        if self.frames:
            self.frames = {}
            self.frames_bytes = 0

    # --- the log -------------------------------------------------------------------------------

    def begin_at(self, head: int, revision: int) -> None:
        """Take the head that a new reader found in the store."""
        if self.head == 0:
            self.head = head
            self.revision = max(self.revision, revision)
        elif head > self.head:
            self.mark_stale()

    def mark_stale(self) -> None:
        """Let the next reader read the log for everybody."""
        self.stale = True
        self.moves += 1
        self.wake()

    def delete(self) -> None:
        """The chat is deleted: streams end behind its last event."""
        self.deleted = True
        self.wake()

    def add(self, events: tuple[LoggedEvent, ...]) -> None:
        """Take committed events, in order, of this process or read from the log."""
        if not events:
            return
        for event in events:
            self.observe(event)
            if event.sequence <= self.head:
                continue
            if self.head and event.sequence != self.head + 1:
                self.mark_stale()  # another process wrote in between
                return
            self.head = event.sequence
            self.tail.append(event)
            self.tail_bytes += event_bytes(event)
        while len(self.tail) > TAIL_EVENTS_MAX or (
            self.tail_bytes > TAIL_BYTES_MAX and len(self.tail) > 1
        ):
            self.tail_bytes -= event_bytes(self.tail.pop(0))
        self.moves += 1
        self.wake()

    def event(self, sequence: int) -> LoggedEvent | None:
        """Return an event of the tail."""
        tail = self.tail
        if not tail:
            return None
        index = sequence - tail[0].sequence
        return tail[index] if 0 <= index < len(tail) else None

    # --- the attempt ---------------------------------------------------------------------------

    def observe(self, event: LoggedEvent) -> None:
        """Close the open attempt if this event closes it."""
        overlay = self.overlay
        if overlay is None or event.sequence <= overlay.base_sequence:
            return
        status = closing(event.event, overlay.attempt_id)
        if status is not OverlayStatus.OPEN:
            self.close(overlay, status)

    def close(self, overlay: Overlay, status: OverlayStatus) -> None:
        """Close an attempt; later writes to it are ignored."""
        if overlay.status is not OverlayStatus.OPEN:
            return
        overlay.status = status
        if self.overlay is overlay:
            self.overlay = None
        if status is OverlayStatus.COMMITTED and self.attached:
            self._keep(overlay)
        self.wake()

    def committed_overlay(self, event: LoggedEvent) -> Overlay | None:
        """Return the attempt that a committed message closes, for a reader that has not begun
        it; made from the message itself when it is an answer of which nothing is kept.
        """
        message = event.message
        assert message is not None, f"event {event.sequence} was read without its message"
        kept = self.closed.get(message.attempt_id)
        if kept is not None or message.role is not Role.ASSISTANT or message.compressed:
            return kept
        overlay = Overlay.of_message(message, event.sequence - 1)
        if self.event(event.sequence) is not None:
            self._keep(overlay)
        return overlay

    def _keep(self, overlay: Overlay) -> None:
        if overlay.size > TAIL_BYTES_MAX:
            return  # readers that have begun it hold it themselves
        self.closed[overlay.attempt_id] = overlay
        while len(self.closed) > CLOSED_MAX or (
            len(self.closed) > 1 and sum(it.size for it in self.closed.values()) > TAIL_BYTES_MAX
        ):
            del self.closed[next(iter(self.closed))]

    # --- responses -----------------------------------------------------------------------------

    def keep_frame(self, cursor: Cursor, frame: bytes) -> None:
        """Keep a response for other readers at the same position; a lone reader needs none."""
        if self.attached == 1:
            return
        self.frames[cursor] = frame
        self.frames_bytes += len(frame)
        while len(self.frames) > FRAMES_MAX or (
            len(self.frames) > 1 and self.frames_bytes > FRAMES_BYTES_MAX
        ):
            self.frames_bytes -= len(self.frames.pop(next(iter(self.frames))))


def closing(event: Event, attempt_id: AttemptId) -> OverlayStatus:
    """Say what an event makes of an attempt; OPEN: it does not concern it."""
    match event:
        case MessageCommitted() if event.attempt_id == attempt_id:
            return OverlayStatus.COMMITTED
        case RetryScheduled() if event.attempt_id == attempt_id:
            return OverlayStatus.VOID
        case StatusChanged() if event.status not in _WORKING:
            return OverlayStatus.VOID
        case _:
            return OverlayStatus.OPEN


def event_bytes(event: LoggedEvent) -> int:
    """Return about how many bytes an event holds; exact enough for a limit on memory."""
    if event.message is None:
        return _EVENT_BYTES
    return _EVENT_BYTES + sum(_part_length(part) for part in event.message.parts)


def _part_length(part: Part) -> int:
    match part:
        case Text() | Reasoning():
            return len(part.text)
        case ToolCall():
            return len(part.arguments)
        case ToolResult():
            return len(part.output)
        case _:
            return len(str(part))
