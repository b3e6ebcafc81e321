"""Parses server-sent events from chunks of bytes: returns the `data` of each event.

Follows the WHATWG specification: lines end with LF, CRLF or CR; `:` starts a comment; several
`data` lines are joined by LF; a blank line ends an event. The event's name is dropped, because all
our vendors repeat it in the data.
"""

EVENT_BYTES_MAX = 32 * 1024 * 1024
"""Limit for one event. Web search results have tens of kilobytes; this much is a broken peer."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LF = 0x0A


class EventTooLarge(Exception):
    """The peer sent an event above the size limit."""


class EventSplitter:
    """Takes chunks, returns whole events, and keeps the incomplete rest."""

    __slots__ = ("_data", "_rest", "_started")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes.

        Raises EventTooLarge if an event grows beyond EVENT_BYTES_MAX.
        """
        text = self._rest + chunk if self._rest else chunk
        if not self._started:
            if _BYTE_ORDER_MARK.startswith(text[:3]) and len(text) < len(_BYTE_ORDER_MARK):
                self._rest = text
                return []
            text = text.removeprefix(_BYTE_ORDER_MARK)
            self._started = True
        if text.find(b"\r") >= 0:
            text, held = _unified(text)
        else:
            held = b""
            if not self._data and (data := _one_event(text)) is not None:
                self._rest = b""
                return [data]
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        if len(self._rest) > EVENT_BYTES_MAX:
            raise EventTooLarge(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return self._events(lines)

    def flush(self) -> bytes | None:
        """Return the data of a last event whose final blank line is missing."""
        rest = self._rest.removesuffix(b"\r")
        events = self._events([rest, b""])
        self._rest = b""
        return events[0] if events else None

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
            elif line == b"data":
                data.append(b"")
        return events


def _one_event(text: bytes) -> bytes | None:
    """Return the data if the text is one whole event with one line of data, else None.

    Nearly every chunk of a paced stream is such an event, with or without a name.
    """
    start = text.find(b"\n") + 1 if text.startswith(b"event:") else 0
    end = len(text) - 2
    if text.startswith(b"data: ", start) and text.find(b"\n", start) == end and text[-1] == _LF:
        return text[start + 6 : end]
    return None


def _unified(text: bytes) -> tuple[bytes, bytes]:
    """Return the text with LF line ends, and a final CR that may be half of a CRLF."""
    held = b"\r" if text.endswith(b"\r") else b""
    text = text.removesuffix(b"\r")
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), held
