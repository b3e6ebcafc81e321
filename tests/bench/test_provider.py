"""The fake vendor speaks the real protocol: the product's own decoder checks it."""

import json

from bench.directive import Directive, directive_in
from bench.floors.provider import TOOL, burst, step
from chatd_server.domain.answer_parts import AnswerPart, CallStarted, Finished
from chatd_server.domain.message import FinishReason
from chatd_server.providers.anthropic.decode import AnswerDecoder
from chatd_server.providers.http.sse import EventSplitter
from tests.kit.script import deltas


def _parts(response: bytes) -> list[AnswerPart]:
    """Return the parts of a whole HTTP response in chunks."""
    _, _, rest = response.partition(b"\r\n\r\n")
    decoder, splitter = AnswerDecoder("claude"), EventSplitter()
    parts: list[AnswerPart] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        for event in splitter.feed(rest[:length]):
            parts += decoder.feed(event)
        rest = rest[length + 2 :]
    assert decoder.is_complete
    return parts


def test_a_directive_survives_its_way_through_a_request() -> None:
    """The newest one counts, whatever surrounds it."""
    asked = Directive(tokens=250, rate=50, pid=7)
    body = json.dumps({"messages": [str(Directive(tokens=9)), f"{asked} and more"]}).encode()
    assert directive_in(body) == asked


def test_a_burst_has_one_delta_per_token() -> None:
    """One text delta for each token, and the terminal event."""
    parts = _parts(burst(7))
    assert len(deltas(parts)) == 7
    assert isinstance(parts[-1], Finished)


def test_steps_call_the_tool_until_there_are_enough_results() -> None:
    """Each step calls a tool and has text; the last one has only a word."""
    directive = Directive(steps=2, bytes=2048)
    for results in (0, 1):
        parts = _parts(step(directive, results))
        (call,) = [part for part in parts if isinstance(part, CallStarted)]
        (text,) = deltas(parts)
        assert (call.name, len(text.text)) == (TOOL, 2050)
        assert isinstance(last := parts[-1], Finished)
        assert last.reason is FinishReason.TOOL_CALLS
    assert not any(isinstance(part, CallStarted) for part in _parts(step(directive, 2)))
