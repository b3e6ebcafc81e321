"""Server-sent events out of bytes, whatever the chunks: the `data` of each event.

Follows the WHATWG text: lines end with LF, CRLF or CR; `:` begins a comment; several `data`
lines are joined by LF; a blank line ends an event. The event's name is not kept, since every
dialect that we speak repeats it inside the data.
"""

EVENT_BYTES_MAX = 32 * 1024 * 1024
"""One event; web search results of tens of kilobytes are normal, this much is a broken peer."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LF = 0x0A


class EventTooLarge(Exception):
    """The peer sends an event without an end."""


class EventSplitter:
    """Takes chunks, gives whole events; keeps what is not whole yet."""

    __slots__ = ("_data", "_rest", "_started")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes.

        Raises EventTooLarge when an event grows beyond EVENT_BYTES_MAX.
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
        """Return the data of an event that the end of the body cut off before its blank line."""
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
    """Return the data of a text that is one whole event of one line of data, with or without a
    name, as nearly every chunk of a paced stream is; None for anything else.
    """
    start = text.find(b"\n") + 1 if text.startswith(b"event:") else 0
    end = len(text) - 2
    if text.startswith(b"data: ", start) and text.find(b"\n", start) == end and text[-1] == _LF:
        return text[start + 6 : end]
    return None


def _unified(text: bytes) -> tuple[bytes, bytes]:
    """Return the text with LF ends only, and a last CR that may be half of a CRLF."""
    held = b"\r" if text.endswith(b"\r") else b""
    text = text.removesuffix(b"\r")
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), held
