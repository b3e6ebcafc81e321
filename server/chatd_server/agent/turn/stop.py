"""Stopping a run from outside, with a cause that is kept until the status is decided.

A bare cancellation carries no reason. So a caller gives the cause to the run's `Stop`, and the run
sees `Stopped(cause)` at its next guard or check. Cancellations from elsewhere pass through.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import TracebackType


class StopCause(StrEnum):
    """Why a run was stopped, and what follows from it."""

    #: The user asked for it by RPC.
    INTERRUPTED = "interrupted"
    #: An edit of an earlier message replaced the turn.
    REPLACED = "replaced"
    #: This process is shutting down.
    SHUTDOWN = "shutdown"
    #: Another worker holds the chat now, or may hold it.
    LEASE_LOST = "lease_lost"

    @property
    def keeps_partial_step(self) -> bool:
        """Whether the unfinished step is saved."""
        return self is StopCause.INTERRUPTED

    @property
    def gives_back(self) -> bool:
        """Whether the chat returns to pending, for another worker, without an error."""
        return self is StopCause.SHUTDOWN

    @property
    def may_write(self) -> bool:
        """Whether this run may still write."""
        return self in {StopCause.INTERRUPTED, StopCause.SHUTDOWN}


class Stopped(Exception):
    """The run has to stop."""

    def __init__(self, cause: StopCause) -> None:
        super().__init__(cause)
        self.cause = cause


class Stop:
    """The stop of one run. Use it only on the event loop's thread."""

    def __init__(self) -> None:
        self._cause: StopCause | None = None
        self._guard: _Guard | None = None

    @property
    def cause(self) -> StopCause | None:
        """Why the run has to stop; None while it need not."""
        return self._cause

    def request(self, cause: StopCause) -> None:
        """Ask the run to stop; the first cause wins."""
        if self._cause is not None:
            return
        self._cause = cause
        if self._guard is not None:
            self._guard.cut()

    def check(self) -> None:
        """Raise Stopped if a stop was requested."""
        if self._cause is not None:
            raise Stopped(self._cause)

    def guard(self) -> AbstractAsyncContextManager[object]:
        """Return a context that a stop cancels at its next await, raising Stopped.

        Entering it after the stop raises at once. A stop that arrives just after the body has ended
        is raised by the next guard or `check`.
        """
        return _Guard(self)


class _Guard:
    """Works like `asyncio.timeout`: it cancels, and swallows only its own cancellation."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cut = False

    def cut(self) -> None:
        """Cancel the guarded task, unless that task is the caller."""
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
        # A higher count than on entry means another cancellation: let that one pass.
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            assert self._stop.cause is not None
            raise Stopped(self._stop.cause) from error
