"""The newest events of a chat, kept for subscribers that are nearly up to date."""

from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.limits import MIB
from chatd_server.domain.message import Part, Reasoning, Text, ToolCall, ToolResult

TAIL_EVENTS_MAX = 32
"""Newest events kept: about four steps with tools. Older ones are read from the log."""
TAIL_BYTES_MAX = MIB
"""Total size of these events: one long answer, or many ordinary ones."""

_EVENT_BYTES = 256


class Tail:
    """Consecutive events that end with `head`."""

    __slots__ = ("_bytes", "_events", "head")

    def __init__(self) -> None:
        #: Newest known sequence; 0 before the first read.
        self.head = 0
        self._events: list[LoggedEvent] = []
        self._bytes = 0

    def add(self, event: LoggedEvent) -> bool:
        """Append a new event; return False if it leaves a gap."""
        if event.sequence <= self.head:
            return True
        if self.head and event.sequence != self.head + 1:
            return False
        self.head = event.sequence
        self._events.append(event)
        self._bytes += event_bytes(event)
        while len(self._events) > TAIL_EVENTS_MAX or (
            self._bytes > TAIL_BYTES_MAX and len(self._events) > 1
        ):
            self._bytes -= event_bytes(self._events.pop(0))
        return True

    def event(self, sequence: int) -> LoggedEvent | None:
        """Return an event, if it is still kept."""
        events = self._events
        if not events:
            return None
        index = sequence - events[0].sequence
        return events[index] if 0 <= index < len(events) else None

    def forget_events(self) -> None:
        """Drop the events, but keep the head."""
        if self._events:
            self._events, self._bytes = [], 0

    def __len__(self) -> int:
        return len(self._events)


def event_bytes(event: LoggedEvent) -> int:
    """Estimate the size of an event in bytes, for a limit on memory."""
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
