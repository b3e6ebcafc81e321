"""The splitter gives the same events for any chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd_server.providers.http import sse
from chatd_server.providers.http.sse import EventSplitter, EventTooLarge

LINES = st.sampled_from(
    ["data: a", "data:b", "data: ", "data", "event: x", ": note", "id: 1", "data: ü", "datas: no"]
)
EVENTS = st.lists(st.lists(LINES, min_size=1, max_size=4), max_size=6)


def _plain(events: list[list[str]]) -> list[bytes]:
    """Split as simply as possible."""
    found = []
    for lines in events:
        data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
        bare = [line for line in lines if line == "data"]
        if data or bare:
            ordered = [
                line[5:].removeprefix(" ") if ":" in line else ""
                for line in lines
                if line.startswith("data:") or line == "data"
            ]
            found.append("\n".join(ordered).encode())
    return found


@given(EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_events_do_not_depend_on_chunks(
    events: list[list[str]], end: str, data: st.DataObject
) -> None:
    """Any line end, cut anywhere (also between CR and LF): the same events."""
    body = "".join(end.join(lines) + end + end for lines in events).encode()
    size = data.draw(st.integers(1, max(1, len(body))))
    splitter = EventSplitter()
    found = [e for at in range(0, len(body), size) for e in splitter.feed(body[at : at + size])]
    last = splitter.flush()
    assert found + ([last] if last is not None else []) == _plain(events)


@given(EVENTS)
def test_a_chunk_that_is_an_event_is_split_like_any_other(events: list[list[str]]) -> None:
    """Nearly all chunks of a paced stream are one event each, which has its own fast path."""
    splitter = EventSplitter()
    chunks = ["\n".join([*lines, "", ""]).encode() for lines in events]
    assert [e for chunk in chunks for e in splitter.feed(chunk)] == _plain(events)


def test_a_byte_order_mark_is_not_data() -> None:
    """A byte order mark before the first event is skipped, even if it is split."""
    splitter = EventSplitter()
    body = b"\xef\xbb\xbfdata: a\n\n"
    assert [e for byte in body for e in splitter.feed(bytes([byte]))] == [b"a"]


def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that never ends an event cannot fill the memory."""
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 100)
    splitter = EventSplitter()
    with pytest.raises(EventTooLarge):
        splitter.feed(b"data: " + b"x" * 200)


def test_an_event_that_the_body_ends_in_is_given_by_flush() -> None:
    """Some servers send no blank line after the last event."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b") == [b"a"]
    assert splitter.flush() == b"b"
