"""An observer that records, so that a test can wait for a fact instead of a time."""

import asyncio
import threading
from dataclasses import dataclass

from chatd_server.observe import Span


@dataclass(frozen=True)
class Noted:
    """One fact, as it was noted."""

    span: Span
    facts: dict[str, object]

    def matches(self, span: Span, facts: dict[str, object]) -> bool:
        """Return whether it is this span with at least these facts."""
        missing = object()
        return self.span == span and all(
            self.facts.get(key, missing) == value for key, value in facts.items()
        )


@dataclass(eq=False)
class _Wait:
    span: Span
    times: int
    facts: dict[str, object]
    found: asyncio.Future[Noted]

    def tell(self, noted: Noted) -> None:
        if not self.found.done():
            self.found.set_result(noted)


class RecordingObserver:
    """An `Observer` that keeps every fact. `note` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: list[Noted] = []
        self._waits: list[_Wait] = []

    def note(self, span: Span, **facts: object) -> None:
        """Keep a fact and wake the tests that wait for it."""
        with self._lock:
            self._noted.append(Noted(span, facts))
            for wait in self._waits:
                noted = self._find(wait.span, wait.times, wait.facts)
                if noted is not None:
                    wait.found.get_loop().call_soon_threadsafe(wait.tell, noted)

    async def until(self, span: Span, /, times: int = 1, **facts: object) -> Noted:
        """Wait until the span was noted `times` times, including earlier ones; return the last one.
        `facts` must be equal.
        """
        with self._lock:
            noted = self._find(span, times, facts)
            if noted is not None:
                return noted
            found = asyncio.get_running_loop().create_future()
            wait = _Wait(span, times, facts, found)
            self._waits.append(wait)
        try:
            return await wait.found
        finally:
            with self._lock:
                self._waits.remove(wait)

    def noted(self, span: Span, /, **facts: object) -> list[Noted]:
        """Return all matching facts so far, in order."""
        with self._lock:
            return [noted for noted in self._noted if noted.matches(span, facts)]

    def spans(self) -> list[Span]:
        """Return the spans of all facts so far, in order."""
        with self._lock:
            return [noted.span for noted in self._noted]

    def _find(self, span: Span, times: int, facts: dict[str, object]) -> Noted | None:
        found = [noted for noted in self._noted if noted.matches(span, facts)]
        return found[times - 1] if len(found) >= times else None
