"""Each directive, as the parts that it drives."""

import pytest

from chatd_server.domain.failure import RETRYABLE_KINDS, ErrorKind, ModelFailure
from chatd_server.domain.message import FinishReason, Native
from chatd_server.domain.stream import CallDelta, PartEnded
from tests.providers.sandbox_kit import (
    lines,
    lines_of,
    parts_of,
    reason_of,
    request,
)

DRIVES = {
    "words": ("!text 4", ["text: the sandbox says grüße", "finish: end_turn"]),
    "literal text": ("!say Hello  there.", ["text: Hello  there.", "finish: end_turn"]),
    "lines of one part": (
        "!say a\n!say b\n!text 2",
        ["text: a\nb\nthe sandbox", "finish: end_turn"],
    ),
    "conversation around directives is not played": (
        "Please do this:\n\n  !say a\nand mind the gap",
        ["text: a", "finish: end_turn"],
    ),
    "thinking, then text": (
        "!think 2\n!say a",
        ["reasoning: the sandbox", "text: a", "finish: end_turn"],
    ),
    "hidden thinking": ("!think 0", ["reasoning: ", "finish: end_turn"]),
    "refusal": ("!refuse No.", ["refusal: No.", "finish: refusal"]),
    "call": (
        '!call get_weather {"city":  "Oslo"}',
        ['call call_0 get_weather {"city":  "Oslo"}', "finish: tool_calls"],
    ),
    "call without arguments": ("!call a", ["call call_0 a {}", "finish: tool_calls"]),
    "call with broken arguments": (
        '!call a {"b',
        ['call call_0 a {"b', "finish: tool_calls"],
    ),
    "parallel calls behind text": (
        "!say Look.\n!call a\n!call b",
        ["text: Look.", "call call_1 a {}", "call call_2 b {}", "finish: tool_calls"],
    ),
    "calls in an answer that was cut": (
        "!call a\n!finish max_tokens",
        ["call call_0 a {}", "finish: max_tokens"],
    ),
    "search": (
        "!search two words",
        [
            'provider call call_0 web_search {"query":"two words"}',
            "provider result call_0 "
            '[{"title":"All about two words","url":"https://example.com/two%20words/1"},'
            '{"title":"More about two words","url":"https://example.com/two%20words/2"}]',
            "Source(url='https://example.com/two%20words/1', title='All about two words', "
            "cited_text='')",
            "Source(url='https://example.com/two%20words/2', title='More about two words', "
            "cited_text='two words is not what it seems.')",
            "finish: end_turn",
        ],
    ),
    "source": (
        "!source https://example.com/a A page",
        [
            "Source(url='https://example.com/a', title='A page', cited_text='')",
            "finish: end_turn",
        ],
    ),
    "note": (
        "!note odd_block",
        [
            "ProviderNote(provider='sandbox', block_type='odd_block', native=None)",
            "finish: end_turn",
        ],
    ),
    "usage in the middle": (
        "!say a\n!usage input=10 output=5 cost=7\n!say b",
        ["text: a\nb", "usage: input_tokens=10 output_tokens=5 cost_micros=7", "finish: end_turn"],
    ),
    "usage unknown": ("!usage none", ["usage: ", "finish: end_turn"]),
    "empty answer": ("!finish end_turn", ["finish: end_turn"]),
    "paused": ("!say a\n!finish paused", ["text: a", "finish: paused"]),
    "restart": ("!say a\n!call b\n!restart\n!say c", ["text: c", "finish: tool_calls"]),
}


@pytest.mark.parametrize(("text", "expected"), DRIVES.values(), ids=DRIVES.keys())
async def test_a_directive_drives_its_parts(text: str, expected: list[str]) -> None:
    """The parts that a directive asks for come, and nothing else."""
    assert await lines_of(text) == expected


async def test_a_file_is_a_png() -> None:
    """A made file has bytes that a client can show."""
    (line, _) = await lines_of("!file a.png")

    assert "media_type='image/png', file_name='a.png', data=b'\\x89PNG" in line


@pytest.mark.parametrize("reason", set(FinishReason) - {FinishReason.INTERRUPTED})
async def test_every_finish_reason_of_a_vendor_can_be_asked_for(reason: FinishReason) -> None:
    """A client meets each reason that a model can give."""
    assert reason_of(await parts_of(f"!say a\n!finish {reason}")) is reason


async def test_arguments_come_in_pieces() -> None:
    """A client sees the arguments of a call grow."""
    pieces = [p.arguments for p in await parts_of('!call a {"k":"äöü 🙂"}') if type(p) is CallDelta]

    assert pieces == ['{"k":"äö', 'ü 🙂"}']


async def test_what_only_the_provider_may_see_is_native() -> None:
    """Reasoning and search results carry a signature, so that a leak of it can be looked for."""
    ended = [p.native for p in await parts_of("!think 1\n!search a") if isinstance(p, PartEnded)]

    assert ended == [Native("sandbox", '{"signature":"sandbox-signature"}')] * 2


# --- failures ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ErrorKind)
async def test_each_kind_of_error_comes_n_times_and_then_success(kind: ErrorKind) -> None:
    """The attempt number alone decides, so another worker can go on."""
    text = f"!error {kind} 2\n!say done"
    for attempt in (1, 2):
        with pytest.raises(ModelFailure) as caught:
            await parts_of(request(text, attempt=attempt))
        assert caught.value.error.kind is kind
        assert caught.value.error.retryable is (kind in RETRYABLE_KINDS)
        assert caught.value.error.provider == "sandbox"

    assert await lines_of(request(text, attempt=3)) == ["text: done", "finish: end_turn"]


async def test_an_error_says_what_a_vendor_would_say() -> None:
    """Status and retry-after are those of a vendor, and retryable can be overruled."""
    with pytest.raises(ModelFailure) as caught:
        await parts_of("!error rate_limit after=2.5 retryable=no")

    error = caught.value.error
    assert (error.http_status, error.retry_after_seconds, error.retryable) == (429, 2.5, False)


async def test_errors_of_one_answer_follow_each_other() -> None:
    """Three attempts fail, first twice for one reason, then once for another."""
    kinds = []
    for attempt in (1, 2, 3):
        with pytest.raises(ModelFailure) as caught:
            await parts_of(request("!error rate_limit 2\n!error overloaded", attempt=attempt))
        kinds.append(caught.value.error.kind)

    assert kinds == [ErrorKind.RATE_LIMIT, ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED]
    assert await lines_of(request("!error rate_limit 2\n!error overloaded", attempt=4)) == [
        "finish: end_turn"
    ]


async def test_a_cut_stream_fails_where_it_was_cut_and_goes_on_in_the_next_attempt() -> None:
    """Everything before the cut is seen, a call too, and no Finished."""
    text = "!say a\n!call b\n!cut\n!say c"
    seen = []
    with pytest.raises(ModelFailure) as caught:
        await _collect(request(text), seen)

    assert (caught.value.error.kind, caught.value.error.retryable) == (ErrorKind.TIMEOUT, True)
    assert lines(seen) == ["text: a", "call call_1 b {}"]
    assert (await lines_of(request(text, attempt=2)))[-2:] == ["text: c", "finish: tool_calls"]


async def _collect(asked: object, seen: list[object]) -> None:
    pass  # placeholder
