"""Turns the plan of an answer into parts and waits, in order. Pure.

It does not wait itself, so the parts of a request are always the same.
"""

from collections.abc import Generator, Iterator
from typing import TypeAlias
from urllib.parse import quote

import msgspec

from chatd_server.domain.answer_parts import (
    AnswerPart,
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
    Restarted,
    UsageSeen,
    WholePart,
)
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import FinishReason, Native, Source, Usage
from chatd_server.providers.sandbox.plan import (
    PROVIDER,
    Act,
    Add,
    Answer,
    Call,
    Count,
    Fail,
    Found,
    Overflow,
    Pace,
    Restart,
    Search,
    Speak,
    Stall,
)
from chatd_server.providers.sandbox.words import pieces, tokens

ARGUMENTS_PIECE_CHARACTERS = 8
"""Short enough that even small arguments arrive in several deltas."""
CONTEXT_LIMIT_TOKENS = 1_000_000
"""The context window that the sandbox reports. It fails only on request."""
SEARCH_TOOL = "web_search"

SIGNATURE = Native(PROVIDER, '{"signature":"sandbox-signature"}')
"""Like a vendor's data that must be sent back byte for byte; no client may see it."""

# HTTP statuses of vendors. Kinds that no vendor returns have none.
_HTTP_STATUS = {
    ErrorKind.GENERIC: 500,
    ErrorKind.OVERLOADED: 529,
    ErrorKind.RATE_LIMIT: 429,
    ErrorKind.AUTH: 401,
    ErrorKind.CONFIG: 400,
    ErrorKind.USAGE_LIMIT: 402,
    ErrorKind.CONTENT_FILTER: 400,
    ErrorKind.CONTEXT_EXCEEDED: 400,
}


class Circumstances(msgspec.Struct, frozen=True):
    """What an answer depends on besides its plan. `max_output_tokens` None: no limit."""

    input_tokens: int = 0
    attempt_number: int = 1
    max_output_tokens: int | None = None
    was_compacted: bool = False


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Wait: between two paced pieces, or as a stall."""

    seconds: float
    is_pace: bool


Beat: TypeAlias = AnswerPart | Wait


class Script:
    """Plays one answer, once."""

    def __init__(self, answer: Answer, circumstances: Circumstances) -> None:
        self._answer = answer
        self._circumstances = circumstances
        self._part = -1
        self._open: PieceKind | None = None
        self._pace: float | None = None
        self._has_begun = False
        self._failures = 0
        self._spoken = 0
        self._thought = 0
        self._is_full = False
        self._reported: Usage | None = None

    def beats(self) -> Iterator[Beat]:
        """Yield parts and waits; the last is Finished. Raises planned failures as ModelFailure."""
        for act in self._answer.acts:
            yield from self._perform(act)
            if self._is_full:
                break
        yield from self._close()
        yield Finished(self._reason(), self._usage())

    def _perform(self, act: Act) -> Iterator[Beat]:
        match act:
            case Speak():
                yield from self._speak(act)
            case Call():
                yield from self._call(act.name, act.arguments, by_provider=False)
            case Search():
                yield from self._search(act)
            case Found():
                yield from self._found(act.vendor_id, act.arguments)
            case Add():
                yield from self._close()
                yield WholePart(self._next(), act.value)
            case Count():
                self._reported = act.usage
                yield UsageSeen(act.usage)
            case Pace():
                self._pace = act.pace
            case Stall():
                yield Wait(act.seconds, is_pace=False)
            case Fail():
                self._fail(act)
            case Overflow():
                self._overflow()
            case Restart():
                self._part, self._open = -1, None
                yield Restarted()

    # --- parts -----------------------------------------------------------------------------

    def _speak(self, act: Speak) -> Iterator[Beat]:
        space = "\n" if self._open is act.kind else ""
        if self._open is not act.kind:
            yield from self._close()
            self._next()
            self._open = act.kind
        part = self._part
        if act.source == 0:
            yield Delta(part, act.kind, "")
        for token in tokens(act.source):
            if self._spoken == self._circumstances.max_output_tokens:
                self._is_full = True
                return
            yield from self._breath(act.pace or self._pace)
            yield Delta(part, act.kind, space + token)
            space = ""
            self._spoken += 1
            self._thought += act.kind is PieceKind.REASONING

    def _call(self, name: str, arguments: str, *, by_provider: bool) -> Generator[Beat, None, str]:
        yield from self._close()
        part = self._next()
        # Vendors may number calls from the start of each answer, so ids repeat within a chat.
        vendor_id = f"call_{part}"
        yield CallStarted(part, vendor_id, name, by_provider)
        for piece in pieces(arguments, ARGUMENTS_PIECE_CHARACTERS):
            yield from self._breath(self._pace)
            yield Delta(part, PieceKind.CALL, piece)
        yield PartEnded(part, SIGNATURE if by_provider else None)
        return vendor_id

    def _search(self, act: Search) -> Iterator[Beat]:
        arguments = msgspec.json.encode({"query": act.query}).decode()
        vendor_id = yield from self._call(SEARCH_TOOL, arguments, by_provider=True)
        if not act.is_later:
            yield from self._found(vendor_id, arguments)

    def _found(self, vendor_id: str, arguments: str) -> Iterator[Beat]:
        query = msgspec.json.decode(arguments)["query"]
        address = f"https://example.com/{quote(query)}"
        sources = (
            Source(f"{address}/1", f"All about {query}"),
            Source(f"{address}/2", f"More about {query}", f"{query} is not what it seems."),
        )
        found = [{"title": source.title, "url": source.url} for source in sources]
        yield ProviderResult(
            self._next(),
            vendor_id,
            SEARCH_TOOL,
            msgspec.json.encode(found).decode(),
            native=SIGNATURE,
        )
        for source in sources:
            yield WholePart(self._next(), source)

    def _next(self) -> int:
        self._part += 1
        return self._part

    def _close(self) -> Iterator[Beat]:
        if self._open is not None:
            is_signed = self._open is PieceKind.REASONING
            self._open = None
            yield PartEnded(self._part, SIGNATURE if is_signed else None)

    def _breath(self, pace: float | None) -> Iterator[Beat]:
        """Wait before every piece of the answer but the first."""
        if pace is not None and self._has_begun:
            yield Wait(1 / pace, is_pace=True)
        self._has_begun = True

    # --- failures --------------------------------------------------------------------------

    def _fail(self, act: Fail) -> None:
        self._failures += act.times
        if self._circumstances.attempt_number <= self._failures:
            raise failure(
                act.kind,
                act.message,
                provider=PROVIDER,
                detail=f"attempt {self._circumstances.attempt_number}; {self._failures} fail",
                http_status=_HTTP_STATUS.get(act.kind),
                retryable=act.retryable,
                retry_after_seconds=act.retry_after_seconds,
            )

    def _overflow(self) -> None:
        if not self._circumstances.was_compacted:
            raise failure(
                ErrorKind.CONTEXT_EXCEEDED,
                "The context is too long, as the sandbox was asked to report.",
                provider=PROVIDER,
                http_status=_HTTP_STATUS[ErrorKind.CONTEXT_EXCEEDED],
            )

    # --- the end ---------------------------------------------------------------------------

    def _reason(self) -> FinishReason:
        if self._is_full:
            return FinishReason.MAX_TOKENS
        return self._answer.reason

    def _usage(self) -> Usage:
        """Return the reported counts, else the real ones: a token is a word."""
        if self._reported is not None:
            return self._reported
        read = self._circumstances.input_tokens
        return Usage(
            input_tokens=read,
            output_tokens=self._spoken,
            reasoning_tokens=self._thought or None,
            context_tokens=read + self._spoken,
            context_limit=CONTEXT_LIMIT_TOKENS,
        )
