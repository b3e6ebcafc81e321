"""An observer that records, so that a test can wait for a fact instead of a time."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from chatd_server.observe.spans import Fact

F = TypeVar("F", bound=Fact)


class _Wait(Generic[F]):
    def __init__(self, kind: type[F], times: int, wanted: Mapping[str, object]) -> None:
        self.kind = kind
        self.times = times
        self.wanted = wanted
        self.found: asyncio.Future[F] = asyncio.get_running_loop().create_future()

    def tell(self, fact: F) -> None:
        if not self.found.done():
            self.found.set_result(fact)


class RecordingObserver:
    """An `Observer` that keeps every fact. `note` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.facts: list[Fact] = []
        self._waits: list[_Wait[Any]] = []

    def note(self, fact: Fact) -> None:
        """Keep a fact and wake the tests that wait for it."""
        with self._lock:
            self.facts.append(fact)
            for wait in self._waits:
                found = self.noted(wait.kind, **wait.wanted)
                if len(found) >= wait.times:
                    last = found[wait.times - 1]
                    wait.found.get_loop().call_soon_threadsafe(wait.tell, last)

    async def until(self, kind: type[F], /, times: int = 1, **wanted: object) -> F:
        """Wait until the fact was noted `times` times, including earlier ones; return the last one.
        `wanted` must be equal.
        """
        with self._lock:
            found = self.noted(kind, **wanted)
            if len(found) >= times:
                return found[times - 1]
            wait = _Wait(kind, times, wanted)
            self._waits.append(wait)
        try:
            return await wait.found
        finally:
            with self._lock:
                self._waits.remove(wait)

    def noted(self, kind: type[F], /, **wanted: object) -> list[F]:
        """Return all matching facts so far, in order."""
        return [
            fact
            for fact in list(self.facts)
            if isinstance(fact, kind)
            and all(getattr(fact, key) == value for key, value in wanted.items())
        ]
