"""Each directive, and the parts that it produces."""

import msgspec
import pytest

from chatd_server.domain.answer_parts import PartEnded, UsageSeen
from chatd_server.domain.failure import RETRYABLE_KINDS, ChatError, ErrorKind
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Native,
    Reasoning,
    Role,
    Text,
    ToolCall,
    Usage,
)
from chatd_server.ports.models import ModelRequest
from chatd_server.providers.sandbox.directives import DIRECTIVES, Directive
from chatd_server.providers.sandbox.grammar import parse
from tests.kit.script import deltas
from tests.providers.sandbox_kit import (
    finished,
    history,
    lines,
    lines_of,
    message,
    parts_of,
    played,
    reason_of,
    request,
    text_of,
    tool_result,
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
    "parallel calls after text": (
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
            (
                "provider result call_0 "
                '[{"title":"All about two words","url":"https://example.com/two%20words/1"},'
                '{"title":"More about two words","url":"https://example.com/two%20words/2"}]'
            ),
            (
                "Source(url='https://example.com/two%20words/1', title='All about two words', "
                "cited_text='')"
            ),
            (
                "Source(url='https://example.com/two%20words/2', title='More about two words', "
                "cited_text='two words is not what it seems.')"
            ),
            "finish: end_turn",
        ],
    ),
    "search whose result comes later": (
        "!say Look.\n!search_later two words",
        [
            "text: Look.",
            'provider call call_1 web_search {"query":"two words"}',
            "finish: paused",
        ],
    ),
    "search whose result never comes": (
        "!search_later a\n!finish max_tokens",
        ['provider call call_0 web_search {"query":"a"}', "finish: max_tokens"],
    ),
    "a tool is waited for, not a search": (
        "!search_later a\n!call b",
        [
            'provider call call_0 web_search {"query":"a"}',
            "call call_1 b {}",
            "finish: tool_calls",
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
    """A directive produces its parts, and nothing else."""
    assert await lines_of(text) == expected


async def test_a_file_is_a_png() -> None:
    """The file has bytes that a client can show."""
    (line, _) = await lines_of("!file a.png")

    assert "media_type='image/png', file_name='a.png', data=b'\\x89PNG" in line


@pytest.mark.parametrize("reason", [r for r in FinishReason if r is not FinishReason.INTERRUPTED])
async def test_every_finish_reason_of_a_vendor_can_be_asked_for(reason: FinishReason) -> None:
    """Each finish reason of a model can be produced."""
    assert reason_of(await parts_of(f"!say a\n!finish {reason}")) is reason


async def test_arguments_come_in_pieces() -> None:
    """The arguments of a call arrive in several deltas."""
    parts = await parts_of('!call a {"k":"äöü 🙂"}')
    pieces = [part.text for part in deltas(parts, PieceKind.CALL)]

    assert pieces == ['{"k":"äö', 'ü 🙂"}']


async def test_what_only_the_provider_may_see_is_native() -> None:
    """Reasoning and search results carry a signature, so that tests can search for leaks."""
    ended = [p.native for p in await parts_of("!think 1\n!search a") if isinstance(p, PartEnded)]

    assert ended == [Native("sandbox", '{"signature":"sandbox-signature"}')] * 2


# --- failures ------------------------------------------------------------------------------


async def failing(text: str, attempt: int = 1) -> ChatError:
    """Return the error of an attempt."""
    _, error = await played(request(text, attempt=attempt))
    assert error is not None
    return error


@pytest.mark.parametrize("kind", ErrorKind)
async def test_each_kind_of_error_comes_n_times_and_then_success(kind: ErrorKind) -> None:
    """Only the attempt number decides, so another worker can continue."""
    text = f"!error {kind} 2\n!say done"

    for attempt in (1, 2):
        error = await failing(text, attempt)
        assert (error.kind, error.provider) == (kind, "sandbox")
        assert error.retryable is (kind in RETRYABLE_KINDS)
    assert await lines_of(request(text, attempt=3)) == ["text: done", "finish: end_turn"]


async def test_an_error_is_like_a_vendors() -> None:
    """Status and retry-after are like a vendor's, and retryable can be overridden."""
    error = await failing("!error rate_limit after=2.5 retryable=no")

    assert (error.http_status, error.retry_after_seconds, error.retryable) == (429, 2.5, False)
    assert (await failing("!error auth 3 retryable=yes", 3)).retryable


async def test_errors_of_one_answer_follow_each_other() -> None:
    """Three attempts fail: two for one reason, then one for another."""
    text = "!error rate_limit 2\n!error overloaded"

    kinds = [(await failing(text, attempt)).kind for attempt in (1, 2, 3)]

    assert kinds == [ErrorKind.RATE_LIMIT, ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED]
    assert await lines_of(request(text, attempt=4)) == ["finish: end_turn"]


async def test_a_cut_stream_fails_where_it_was_cut_and_goes_on_in_the_next_attempt() -> None:
    """Everything before the cut arrives, including a whole call, but no Finished."""
    text = "!say a\n!call b\n!cut\n!say c"

    seen, error = await played(text)

    assert error is not None
    assert (error.kind, error.retryable) == (ErrorKind.TIMEOUT, True)
    assert lines(seen) == ["text: a", "call call_1 b {}"]
    assert (await lines_of(request(text, attempt=2)))[-2:] == ["text: c", "finish: tool_calls"]


async def test_a_context_that_is_too_long_fails_until_it_was_compacted() -> None:
    """A retry does not help, a compaction does; its summary is not read as directives."""
    (asked,) = request("!context_too_long\n!say done").messages
    summary = message(Role.USER, Text("!say summary"), position=9, compressed=True)

    for attempt in (1, 25):
        error = await failing("!context_too_long\n!say done", attempt)
        assert (error.kind, error.retryable) == (ErrorKind.CONTEXT_EXCEEDED, False)
    assert (await lines_of(ModelRequest([summary, asked])))[0] == "text: done"


# --- tokens --------------------------------------------------------------------------------


async def test_tokens_are_words_unless_they_are_reported() -> None:
    """The context counts with all its content, the answer with its reasoning."""
    asked = ModelRequest(
        messages=history((Role.USER, "one two"), (Role.ASSISTANT, "three"), (Role.USER, "!text 4")),
        system="four five",
    )

    assert finished(await parts_of(asked)).usage == Usage(
        input_tokens=7, output_tokens=4, context_tokens=11, context_limit=1_000_000
    )
    assert finished(await parts_of("!think 2\n!text 1")).usage.reasoning_tokens == 2


async def test_calls_and_results_are_part_of_the_context() -> None:
    """Their arguments and outputs are counted, so that a context grows as a client expects."""
    call = ToolCall(ToolCallId("c"), "lookup", "one two", Executor.SERVER, 0)
    asked = ModelRequest(
        [
            message(Role.USER, Text("three four")),
            message(Role.ASSISTANT, call, Reasoning("five"), position=2),
            message(Role.TOOL, tool_result("six seven"), position=3),
        ]
    )

    assert finished(await parts_of(asked)).usage.input_tokens == 7


async def test_a_report_is_the_usage_of_the_answer() -> None:
    """The last report is final, and omitted counts are unknown."""
    parts = await parts_of("!usage input=1\n!usage input=10 output=0 limit=100")

    expected = Usage(input_tokens=10, output_tokens=0, context_limit=100)
    assert [p.usage for p in parts if isinstance(p, UsageSeen)] == [Usage(input_tokens=1), expected]
    assert finished(parts).usage == expected


async def test_the_limit_of_a_turn_cuts_the_answer() -> None:
    """Words beyond max_output_tokens are not sent, nor anything after them."""
    asked = msgspec.structs.replace(request("!text 2\n!text 3\n!call a"), max_output_tokens=3)

    assert await lines_of(asked) == ["text: the sandbox\nthe", "finish: max_tokens"]
    exact = msgspec.structs.replace(request("!text 3"), max_output_tokens=3)
    assert reason_of(await parts_of(exact)) is FinishReason.END_TURN


# --- lines that cannot be read -------------------------------------------------------------

WRONG = {
    "unknown": ("!shout", "no such directive; choose one of !text, !say"),
    "close to a known one": ("!Text 5", "did you mean !text?"),
    "glued": ("!text5", "did you mean !text?"),
    "missing": ("!text", "N must be a whole number from 1 to 1000000, not ''"),
    "too many": ("!text 1000001", "N must be a whole number from 1 to 1000000"),
    "not ASCII": ("!text ٣", "N must be a whole number"),
    "no pace": ("!text 5 20", "a pace must be a number above 0 and /s, such as 20/s, not '20'"),
    "no time at all": ("!pace 0/s", "a pace must be a number above 0"),
    "no text": ("!say", "TEXT is missing"),
    "no name": ("!call", "NAME is missing"),
    "kind": ("!error rate_limited", "KIND must be one of generic, overloaded, rate_limit,"),
    "option": ("!error auth 2 again=yes", "'again=yes' is not one of after=, retryable="),
    "twice": ("!usage input=1 input=2", "input= is given twice"),
    "usage": ("!usage input=-1", "input must be a whole number from 0"),
    "seconds": ("!stall 1e3", "SECONDS must be a number of seconds up to 86400, not '1e3'"),
    "reason": ("!finish interrupted", "REASON must be one of end_turn, tool_calls,"),
    "too much": ("!step now", "nothing may follow here; remove 'now'"),
    "after the end": ("!finish other\n!say a", "only !step can follow !finish"),
    "a step after the end of the turn": (
        "!step",
        "only after !call, !search_later or !finish paused",
    ),
    "a step after a search that is cut": (
        "!search_later a\n!finish other\n!step",
        "only after !call, !search_later",
    ),
    "a step after a search": ("!search a\n!step\n!say b", "only after !call"),
    "a step after a cut answer": ("!call a\n!finish max_tokens\n!step", "only after !call"),
    "endless": ("!usage none\n!finish paused", "a paused answer needs content before it"),
}


@pytest.mark.parametrize(("text", "advice"), WRONG.values(), ids=WRONG.keys())
async def test_a_line_that_cannot_be_read_is_named(text: str, advice: str) -> None:
    """The answer gives the line, its number and what would be valid; nothing else is done."""
    answer = await text_of("!usage none\n" + text)

    assert answer.startswith("I cannot read a line of your message, so I did nothing.\n\nLine ")
    assert answer.splitlines()[2].partition(": ")[2] in text.splitlines()
    assert advice in answer


async def test_all_lines_that_cannot_be_read_are_named_at_once() -> None:
    """An author sees all mistakes at once."""
    answer = await text_of("!txt\n!say ok\n!finish other\n!say late\n!stall x")

    assert answer.startswith("I cannot read 3 lines of your message")
    assert [line[:7] for line in answer.splitlines() if line.startswith("Line ")] == [
        "Line 1:",
        "Line 4:",
        "Line 5:",
    ]


@pytest.mark.parametrize("text", ["!", "!!", "! text 5", "!5", "Hey!", "a !text 5"])
async def test_an_exclamation_is_not_a_directive(text: str) -> None:
    """Only a line that begins with ! and a letter is a directive."""
    assert (await text_of(text)).startswith(f"You said: {text}\n")


@pytest.mark.parametrize("directive", DIRECTIVES, ids=lambda directive: directive.name)
def test_the_example_of_a_directive_can_be_read(directive: Directive) -> None:
    """The examples in the help work."""
    assert directive.example.startswith(f"!{directive.name}")
    assert directive.usage.startswith(f"!{directive.name}")
    assert parse(f"!call a\n{directive.example}").problems == ()
