"""A clock that a test controls: time passes only when the test advances it.

The event loop around it is real, because grpc and threads do not run on virtual time. So nothing
here guesses whether the program is idle: a test waits for a fact (`sleeping`, or a span of
`RecordingObserver.until`) and then advances the time. `advance` itself continues when the loop has
nothing ready and no `job` is running.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from chatd_server.domain.ids import MICROSECONDS, Instant

START: Instant = 1_767_225_600 * MICROSECONDS
"""2026-01-01T00:00:00Z: any fixed time will do, and a round one is easy to read."""


@dataclass(eq=False)
class _Timer:
    due: Instant
    order: int
    tag: str
    fire: Callable[[], None] = field(repr=False)


class ManualClock:
    """A `Clock` whose time `advance` moves. `now` may be called from any thread, everything else
    only from the loop's thread.
    """

    def __init__(self, start: Instant = START) -> None:
        self._now = start
        self._timers: list[_Timer] = []
        self._registered = 0
        self._jobs = 0
        self._moving = False
        self._waits: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # --- the port --------------------------------------------------------------------------

    def now(self) -> Instant:
        """Return the test's current time."""
        return self._now

    async def sleep(self, seconds: float, tag: str) -> None:
        """Wait until the test has advanced that far; zero seconds is one turn of the loop."""
        if seconds <= 0:
            await _yield()
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._add(seconds, tag, lambda: _wake(woken))
        try:
            await woken
        finally:
            self._remove(timer)

    def timeout(self, seconds: float, tag: str) -> AbstractAsyncContextManager[object]:
        """Return a context that raises TimeoutError once the test has advanced that far."""
        return _ManualTimeout(self, seconds, tag)

    # --- for tests -------------------------------------------------------------------------

    async def sleeping(self, tag: str, at_least: int = 1) -> float:
        """Wait until `at_least` sleeps or timeouts with this tag are open; return the seconds left
        of the earliest.
        """
        await self._when(lambda: len(self._tagged(tag)) >= at_least)
        return (self._tagged(tag)[0].due - self._now) / MICROSECONDS

    def tags(self) -> list[str]:
        """Return the tags of all open sleeps and timeouts, earliest first."""
        return [timer.tag for timer in self._in_order()]

    async def advance(self, seconds: float) -> None:
        """Advance the time; stop at each timer on the way and let its callback run."""
        assert not self._moving, "two tasks of one test advance the clock"
        self._moving = True
        try:
            await self._settle()
            target = self._now + round(seconds * MICROSECONDS)
            while (timer := self._next_until(target)) is not None:
                self._now = max(self._now, timer.due)
                self._remove(timer)
                timer.fire()
                await self._settle()
            self._now = target
        finally:
            self._moving = False

    async def advance_to(self, tag: str) -> float:
        """Wait for a sleep or timeout with this tag and advance to it; return the seconds."""
        seconds = await self.sleeping(tag)
        await self.advance(seconds)
        return seconds

    @contextmanager
    def job(self) -> Iterator[None]:
        """Count work outside the loop (a statement in a thread): `advance` waits for it between two
        timers.
        """
        self._jobs += 1
        try:
            yield
        finally:
            self._jobs -= 1
            self._notify()

    # --- inside ----------------------------------------------------------------------------

    def _add(self, seconds: float, tag: str, fire: Callable[[], None]) -> _Timer:
        self._registered += 1
        due = self._now + round(seconds * MICROSECONDS)
        timer = _Timer(due, self._registered, tag, fire)
        self._timers.append(timer)
        self._notify()
        return timer

    def _remove(self, timer: _Timer) -> None:
        if timer in self._timers:
            self._timers.remove(timer)

    def _in_order(self) -> list[_Timer]:
        return sorted(self._timers, key=lambda timer: (timer.due, timer.order))

    def _tagged(self, tag: str) -> list[_Timer]:
        return [timer for timer in self._in_order() if timer.tag == tag]

    def _next_until(self, target: Instant) -> _Timer | None:
        return next((timer for timer in self._in_order() if timer.due <= target), None)

    def _notify(self) -> None:
        for holds, future in self._waits:
            if holds():
                _wake(future)

    async def _when(self, holds: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after each new timer and finished job."""
        while not holds():
            wait = (holds, asyncio.get_running_loop().create_future())
            self._waits.append(wait)
            try:
                await wait[1]
            finally:
                self._waits.remove(wait)

    async def _settle(self) -> None:
        """Let the loop run until it has nothing ready and no job is running."""
        while True:
            await self._when(lambda: self._jobs == 0)
            await _yield()
            if self._jobs == 0 and not _ready(asyncio.get_running_loop()):
                return


class _ManualTimeout:
    """`asyncio.timeout` with a deadline on the test's clock."""

    def __init__(self, clock: ManualClock, seconds: float, tag: str) -> None:
        self._clock = clock
        self._seconds = seconds
        self._tag = tag
        self._timer: _Timer | None = None
        self._scope: asyncio.Timeout | None = None

    async def __aenter__(self) -> object:
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)  # noqa: TID251  its deadline is on the test's clock
        await scope.__aenter__()
        self._scope = scope
        self._timer = self._clock._add(
            self._seconds, self._tag, lambda: scope.reschedule(loop.time())
        )
        if self._seconds <= 0:
            scope.reschedule(loop.time())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        assert self._scope is not None
        self._clock._remove(self._timer)
        await self._scope.__aexit__(kind, error, trace)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


async def _yield() -> None:
    await asyncio.sleep(0)  # noqa: TID251  one turn of the loop, no time passes


def _ready(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a callback is ready to run. CPython's own loop keeps them in a private deque;
    tests run on that loop.
    """
    return bool(getattr(loop, "_ready", ()))
