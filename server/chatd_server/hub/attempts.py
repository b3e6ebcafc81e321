"""The attempts of one chat that this process shows.

An attempt ends in one of three ways, in any order: an event closes it, a new subscriber reads a
chat state without it, or its worker abandons it. The results of the first two are kept, so that an
attempt opened after it was closed is never shown.
"""

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.event import (
    CompactionFinished,
    Event,
    LoggedEvent,
    MessageCommitted,
    RetryScheduled,
    StatusChanged,
)
from chatd_server.domain.ids import AttemptId
from chatd_server.domain.limits import MIB
from chatd_server.domain.message import Role
from chatd_server.hub.overlay import Overlay, OverlayStatus

CLOSED_MAX = 4
"""Committed attempts kept for readers that had not started them at the commit."""
CLOSED_BYTES_MAX = MIB
"""Total size of these: one long answer, or a few ordinary ones."""

_WORKING = frozenset({Status.RUNNING, Status.INTERRUPTING})


class Attempts:
    """The attempt that is shown now, and the newest committed ones."""

    __slots__ = ("_alive", "_as_of", "_committed", "current")

    def __init__(self) -> None:
        #: The attempt that is OPEN or ENDED.
        self.current: Overlay | None = None
        self._committed: dict[AttemptId, Overlay] = {}
        #: At this sequence the log had only `_alive` open.
        self._as_of = 0
        self._alive = AttemptId("")

    def open(self, attempt_id: AttemptId, base_sequence: int) -> Overlay:
        """Open an attempt; voids one that is still open."""
        if self.current is not None:
            self.void(self.current)
        self.current = Overlay(attempt_id, base_sequence)
        self._compare()
        return self.current

    def void(self, overlay: Overlay) -> bool:
        """Void an attempt unless the log has closed it; return whether anything changed."""
        return self._close(overlay, OverlayStatus.VOID, None)

    def read(self, state: ChatState) -> None:
        """Learn from a state of the store which attempt is open."""
        turn = state.turn
        attempt = None if turn is None else turn.attempt
        self._learn(state.head_sequence, AttemptId("") if attempt is None else attempt.id)

    def observe(self, event: LoggedEvent) -> bool:
        """Process an event of the log; return whether it closed the attempt that is shown."""
        if isinstance(event.event, StatusChanged) and event.event.status not in _WORKING:
            self._learn(event.sequence, AttemptId(""))
        overlay = self.current
        if overlay is None or event.sequence <= overlay.base_sequence:
            return False
        status = closing(event.event, overlay.attempt_id)
        if status is OverlayStatus.OPEN:
            return False
        return self._close(overlay, status, event.sequence)

    def committed(self, event: LoggedEvent, *, is_recent: bool) -> Overlay | None:
        """Return the attempt that a committed message closes, for a reader that has not started it.

        If it is no longer kept, the attempt of an answer or a summary is rebuilt from the message.
        """
        message = event.message
        assert message is not None, f"event {event.sequence} was read without its message"
        kept = self._committed.get(message.attempt_id)
        is_rebuilt = message.role is Role.ASSISTANT or message.summary_for is not None
        if kept is not None or not is_rebuilt:
            return kept
        overlay = Overlay.of_message(message, event.sequence - 1)
        overlay.over_at = event.sequence
        if is_recent:
            self._keep(overlay)
        return overlay

    def forget_committed(self) -> None:
        """Drop what is kept for slow readers."""
        if self._committed:
            self._committed = {}

    # --- inside --------------------------------------------------------------------------------

    def _learn(self, sequence: int, alive: AttemptId) -> None:
        if sequence < self._as_of:
            return
        self._as_of, self._alive = sequence, alive
        self._compare()

    def _compare(self) -> None:
        """End the attempt that is shown if the log has closed it."""
        overlay = self.current
        if (
            overlay is not None
            and overlay.status is OverlayStatus.OPEN
            and overlay.base_sequence < self._as_of
            and overlay.attempt_id != self._alive
        ):
            overlay.status, overlay.over_at = OverlayStatus.ENDED, self._as_of

    def _close(self, overlay: Overlay, status: OverlayStatus, sequence: int | None) -> bool:
        if overlay.status not in {OverlayStatus.OPEN, OverlayStatus.ENDED}:
            return False
        overlay.status, overlay.over_at = status, sequence
        if self.current is overlay:
            self.current = None
        if status is OverlayStatus.COMMITTED:
            overlay.show_tail()
            self._keep(overlay)
        return True

    def _keep(self, overlay: Overlay) -> None:
        if overlay.size > CLOSED_BYTES_MAX:
            return  # readers that have started it hold it themselves
        kept = self._committed
        kept[overlay.attempt_id] = overlay
        while len(kept) > CLOSED_MAX or (
            len(kept) > 1 and sum(it.size for it in kept.values()) > CLOSED_BYTES_MAX
        ):
            del kept[next(iter(kept))]


def closing(event: Event, attempt_id: AttemptId) -> OverlayStatus:
    """Return the status that an event gives an attempt; OPEN if it does not concern it."""
    match event:
        case MessageCommitted() if event.attempt_id == attempt_id:
            return OverlayStatus.COMMITTED
        case RetryScheduled() if event.attempt_id == attempt_id:
            return OverlayStatus.VOID
        case CompactionFinished() if event.attempt_id == attempt_id:
            return OverlayStatus.VOID
        case StatusChanged() if event.status not in _WORKING:
            return OverlayStatus.VOID
        case _:
            return OverlayStatus.OPEN
