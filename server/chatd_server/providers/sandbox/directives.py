"""The directives, as one table: syntax, meaning and parser of each.

The sandbox's help text and error messages come from this table, and tests compare it with the docs.
"""

import base64
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import File, FinishReason, ProviderNote, Source, Usage
from chatd_server.providers.sandbox.fields import (
    Unreadable,
    given,
    nothing,
    one_of,
    options,
    pace,
    seconds,
    whole,
)
from chatd_server.providers.sandbox.plan import (
    PROVIDER,
    Act,
    Add,
    Call,
    Count,
    Fail,
    Overflow,
    Pace,
    Restart,
    Search,
    Speak,
    Stall,
)

TOKENS_MAX = 1_000_000
"""More than any answer may have, so that a test can exceed the limit on answers."""
SECONDS_MAX = 86_400
COUNT_MAX = 10**12
"""A generous limit for reported tokens, or millionths of a dollar."""
TIMES_MAX = 1_000
"""More than the longest series of retries."""
SEARCH_CHARACTERS_MAX = 1_000
"""The words come back five times, in URLs and titles of sources."""


class Step(msgspec.Struct, frozen=True):
    """The acts after this belong to the next answer."""


class Summarise(msgspec.Struct, frozen=True):
    """The acts after this are the summary when the context is compacted."""


class Finish(msgspec.Struct, frozen=True):
    """The answer ends with this reason."""

    reason: FinishReason


Mark: TypeAlias = Act | Step | Summarise | Finish


class Directive(msgspec.Struct, frozen=True):
    """One directive. `read` parses the text after the name. Raises Unreadable."""

    name: str
    usage: str
    meaning: str
    example: str
    read: Callable[[str], Mark]


def _speak(kind: PieceKind, lowest: int) -> Callable[[str], Mark]:
    def read(rest: str) -> Mark:
        count, _, speed = rest.partition(" ")
        return Speak(
            kind,
            whole(count, "N", lowest, TOKENS_MAX),
            pace(speed.strip()) if speed else None,
        )

    return read


def _say(rest: str) -> Mark:
    return Speak(PieceKind.TEXT, given(rest, "TEXT"))


def _refuse(rest: str) -> Mark:
    return Speak(PieceKind.REFUSAL, rest or "The sandbox was asked to refuse.")


def _set_pace(rest: str) -> Mark:
    return Pace(None if rest == "full" else pace(rest))


def _call(rest: str) -> Mark:
    name, _, arguments = given(rest, "NAME").partition(" ")
    return Call(name, arguments.strip() or "{}")


def _search(*, is_later: bool) -> Callable[[str], Mark]:
    def read(rest: str) -> Mark:
        words = given(rest, "WORDS")
        if len(words) > SEARCH_CHARACTERS_MAX:
            raise Unreadable(f"WORDS has at most {SEARCH_CHARACTERS_MAX} characters")
        return Search(words, is_later)

    return read


def _source(rest: str) -> Mark:
    url, _, title = given(rest, "URL").partition(" ")
    return Add(Source(url, title.strip()))


# One transparent pixel.
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def _file(rest: str) -> Mark:
    return Add(File("image/png", rest or "sandbox.png", _PIXEL))


def _note(rest: str) -> Mark:
    return Add(ProviderNote(PROVIDER, rest or "sandbox_block"))


_USAGE_FIELDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "context": "context_tokens",
    "limit": "context_limit",
    "cost": "cost_micros",
}


def _usage(rest: str) -> Mark:
    if rest == "none":
        return Count(Usage())
    counts = options(given(rest, "KEY=N").split(), *_USAGE_FIELDS)
    return Count(
        Usage(**{_USAGE_FIELDS[key]: whole(n, key, 0, COUNT_MAX) for key, n in counts.items()})
    )


def _stall(rest: str) -> Mark:
    return Stall(seconds(rest, "SECONDS", SECONDS_MAX))


def _cut(rest: str) -> Mark:
    times = whole(rest or "1", "TIMES", 1, TIMES_MAX)
    words = "The stream ended before the answer was complete."
    return Fail(ErrorKind.TIMEOUT, words, times)


_KINDS = {kind.value: kind for kind in ErrorKind}
_YES_NO = {"yes": True, "no": False}


def _error(rest: str) -> Mark:
    kind, *more = given(rest, "KIND").split()
    times = more.pop(0) if more and "=" not in more[0] else "1"
    chosen = options(more, "after", "retryable")
    after, retryable = chosen.get("after"), chosen.get("retryable")
    return Fail(
        one_of(kind, "KIND", _KINDS),
        f"The sandbox was asked to fail with {kind}.",
        whole(times, "TIMES", 1, TIMES_MAX),
        None if retryable is None else one_of(retryable, "retryable", _YES_NO),
        None if after is None else seconds(after, "after", SECONDS_MAX),
    )


def _context_too_long(rest: str) -> Mark:
    nothing(rest)
    return Overflow()


def _restart(rest: str) -> Mark:
    nothing(rest)
    return Restart()


# Not "interrupted": only the service uses that reason, for a user's stop.
_REASONS = {
    reason.value: reason for reason in FinishReason if reason is not FinishReason.INTERRUPTED
}


def _finish(rest: str) -> Mark:
    return Finish(one_of(given(rest, "REASON"), "REASON", _REASONS))


def _step(rest: str) -> Mark:
    nothing(rest)
    return Step()


def _summary(rest: str) -> Mark:
    nothing(rest)
    return Summarise()


DIRECTIVES: tuple[Directive, ...] = (
    Directive(
        "text", "!text N [R/s]", "say N words, R per second", "!text 200 20/s",
        _speak(PieceKind.TEXT, 1),
    ),
    Directive("say", "!say TEXT", "say TEXT", "!say Hello there.", _say),
    Directive(
        "think", "!think N [R/s]", "think N words; 0 is thinking that stays hidden",
        "!think 50 20/s", _speak(PieceKind.REASONING, 0),
    ),
    Directive("refuse", "!refuse [TEXT]", "refuse, in these words", "!refuse No.", _refuse),
    Directive(
        "call", "!call NAME [JSON]", "call a tool; several in one answer run in parallel",
        '!call current_time {"timezone": "Europe/Oslo"}', _call,
    ),
    Directive(
        "search", "!search WORDS", "let the provider search: call, result, two sources",
        "!search durable chats", _search(is_later=False),
    ),
    Directive(
        "search_later", "!search_later WORDS",
        "begin a search and pause; its result begins the next answer",
        "!search_later durable chats", _search(is_later=True),
    ),
    Directive(
        "source", "!source URL [TITLE]", "cite a source", "!source https://example.com A page",
        _source,
    ),
    Directive("file", "!file [NAME]", "make a file, a picture of one pixel", "!file a.png", _file),
    Directive(
        "note", "!note [KIND]", "send a block that only the provider understands",
        "!note sandbox_block", _note,
    ),
    Directive(
        "usage", "!usage KEY=N ... | none",
        f"report tokens; KEY is one of {', '.join(_USAGE_FIELDS)}",
        "!usage input=10 output=5", _usage,
    ),
    Directive(
        "pace", "!pace R/s | full", "send R pieces per second from here to the end of the answer",
        "!pace 5/s", _set_pace,
    ),
    Directive("stall", "!stall SECONDS", "send nothing for SECONDS", "!stall 2.5", _stall),
    Directive(
        "cut", "!cut [TIMES]", "cut the stream here, in the first TIMES attempts", "!cut", _cut
    ),
    Directive(
        "error", "!error KIND [TIMES] [after=SECONDS] [retryable=yes|no]",
        "fail here, in the first TIMES attempts", "!error rate_limit 2 after=3", _error,
    ),
    Directive(
        "context_too_long", "!context_too_long", "fail until the context is compacted",
        "!context_too_long", _context_too_long,
    ),
    Directive(
        "restart", "!restart", "restart the answer; the text before is void", "!restart",
        _restart,
    ),
    Directive(
        "finish", "!finish REASON", "end the answer with this reason; alone, an empty answer",
        "!finish max_tokens", _finish,
    ),
    Directive(
        "step", "!step", "what follows is the next answer of the same turn", "!step", _step
    ),
    Directive(
        "summary", "!summary", "what follows is the summary when the context is compacted",
        "!summary", _summary,
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Directive] = {directive.name: directive for directive in DIRECTIVES}
