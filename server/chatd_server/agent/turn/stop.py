"""Stopping a run from outside, with a cause that is kept until the status is decided.

A bare cancellation says nothing about why. So who wants a run to stop says the cause to its
`Stop`, and the run sees `Stopped(cause)` at the next guard or look; a cancellation that is not
ours passes through untouched.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import TracebackType


class StopCause(StrEnum):
    """Why a run was cut, and what follows from it."""

    #: The user asked, by RPC.
    INTERRUPTED = "interrupted"
    #: An edit of an earlier message took the chat away.
    REPLACED = "replaced"
    #: This process is leaving.
    SHUTDOWN = "shutdown"
    #: Another worker owns the chat now, or may.
    LEASE_LOST = "lease_lost"

    @property
    def keeps_partial_step(self) -> bool:
        """Whether what the step has so far is saved."""
        return self is StopCause.INTERRUPTED

    @property
    def gives_back(self) -> bool:
        """Whether the chat goes back to pending, for another worker, without an error."""
        return self is StopCause.SHUTDOWN

    @property
    def may_write(self) -> bool:
        """Whether this run may still write anything at all."""
        return self in {StopCause.INTERRUPTED, StopCause.SHUTDOWN}


class Stopped(Exception):
    """The run was asked to stop."""

    def __init__(self, cause: StopCause) -> None:
        super().__init__(cause)
        self.cause = cause


class Stop:
    """One run's stop. Everything here belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._cause: StopCause | None = None
        self._guard: _Guard | None = None

    @property
    def cause(self) -> StopCause | None:
        """Why the run is to stop; None when it is not."""
        return self._cause

    def request(self, cause: StopCause) -> None:
        """Ask the run to stop; the first cause wins."""
        if self._cause is not None:
            return
        self._cause = cause
        if self._guard is not None:
            self._guard.cut()

    def check(self) -> None:
        """Raise Stopped when the run was asked to stop."""
        if self._cause is not None:
            raise Stopped(self._cause)

    def guard(self) -> AbstractAsyncContextManager[object]:
        """Return a context that a stop cuts at its next await, raising Stopped.

        Entering it after the stop raises at once. A stop that comes when the body has just
        ended is found by the next guard or `check`.
        """
        return _Guard(self)


class _Guard:
    """Works like `asyncio.timeout`: it cancels, and swallows its own cancel only."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cut = False

    def cut(self) -> None:
        """Cancel the guarded task, unless it is the very one that asks."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._cut = True
            self._task.cancel()

    async def __aenter__(self) -> object:
        self._stop.check()
        assert self._stop._guard is None, "guards do not nest"  # noqa: SLF001  one module, one mechanism
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._stop._guard = self  # noqa: SLF001  one module, one mechanism
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop._guard = None  # noqa: SLF001  one module, one mechanism
        if not self._cut:
            return
        assert self._task is not None
        # Somebody else cancelled too when the count stays above what it was: theirs passes.
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            assert self._stop.cause is not None
            raise Stopped(self._stop.cause) from error
