"""One thread writes. The jobs that wait are committed as one group, and acknowledged after it."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost, Refused
from chatd_server.ports.store import Applied
from chatd_server.store.sqlite.failures import translated

GROUP_MAX = 256
"""Jobs of one commit: beyond it a commit takes longer than the fsync that it shares."""

T = TypeVar("T")


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


class Job(msgspec.Struct, Generic[T], eq=False, kw_only=True):
    """One piece of writing: whole or not at all. `run` is called in a transaction.

    Refused and LeaseLost undo this job alone, by its savepoint; any other error undoes the
    group, after which each job of it runs again alone.
    """

    #: The caller waits for it.
    future: asyncio.Future[T] = msgspec.field(default_factory=_future)
    #: False: it refuses before it writes anything, so there is nothing to undo.
    savepoint: bool = True
    #: The result, once it has run.
    value: T | None = None
    error: Exception | None = None
    #: The transitions that it made, in order; told to the listeners after the commit.
    commits: list[Applied] = []
    #: The first command that it recorded: how an unknown outcome is looked up.
    key: bytes | None = None

    def run(self, again: bool) -> T:
        """Write. `again`: an earlier run was undone, or its commit has an unknown outcome."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget an undone run."""
        self.value = self.error = self.key = None
        self.commits = []


class Transactions(Protocol):
    """What a group needs of the database, besides the jobs."""

    @property
    def connection(self) -> sqlite3.Connection:
        """The writer's connection."""

    def begin(self) -> None:
        """Begin a transaction; undo one that could not be undone before."""

    def flush(self) -> None:
        """Write the rows that jobs without a savepoint have collected."""

    def is_recorded(self, key: bytes) -> bool:
        """Say whether a command with this key was committed."""


class GroupCommit:
    """Runs groups of jobs on the writer's connection."""

    def __init__(self, ledger: Transactions) -> None:
        self._ledger = ledger
        self._execute = ledger.connection.execute

    def run(self, jobs: Sequence[Job[Any]]) -> None:
        """Commit all of them, or each alone. Afterwards each job has a value or an error."""
        try:
            self._together(jobs)
        except Exception:  # noqa: BLE001  each job finds its own error when it runs alone
            for job in jobs:
                self._alone(job)

    def _together(self, jobs: Sequence[Job[Any]]) -> None:
        execute = self._execute
        try:
            self._ledger.begin()
            for job in jobs:
                if job.savepoint:
                    self._member(job)
                    continue
                try:
                    job.value = job.run(again=False)
                except (Refused, LeaseLost) as refusal:
                    job.error = refusal
            self._ledger.flush()
            execute("COMMIT")
        except BaseException:
            self._undo()
            raise

    def _member(self, job: Job[Any]) -> None:
        self._ledger.flush()
        self._execute("SAVEPOINT job")
        try:
            job.value = job.run(again=False)
        except (Refused, LeaseLost) as refusal:
            self._execute("ROLLBACK TO job")
            job.reset()
            job.error = refusal
        self._execute("RELEASE job")

    def _alone(self, job: Job[Any]) -> None:
        try:
            self._ledger.begin()
            # A commit that failed may still have been made; recorded means done.
            if job.key is None or not self._ledger.is_recorded(job.key):
                job.reset()
                job.value = job.run(again=True)
            self._execute("COMMIT")
        except Exception as error:  # noqa: BLE001  handed to the caller of the job
            self._undo()
            job.reset()
            job.error = translated(error)

    def _undo(self) -> None:
        # SQLite may have rolled back by itself (a full disk, an I/O error). If it cannot, `begin`
        # tries again before the next job.
        if self._ledger.connection.in_transaction:
            with suppress(sqlite3.Error):
                self._execute("ROLLBACK")


class Writer:
    """The thread and its queue."""

    def __init__(self, group: GroupCommit, delivered: Callable[[Sequence[Job[Any]]], None]) -> None:
        self._group = group
        self._delivered = delivered
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="chatd-writer", daemon=True)
        self._thread.start()

    def submit(self, job: "Job[T]") -> "asyncio.Future[T]":
        """Queue a job; raises DatabaseUnavailable once the writer is closing."""
        if self._closing:
            raise DatabaseUnavailable("the store is closed")
        self._queue.put(job)
        return job.future

    async def close(self) -> None:
        """Write the queued jobs, and end the thread."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _write(self) -> None:
        jobs: list[Job[Any]] = []
        take, take_now = self._queue.get, self._queue.get_nowait
        tell = self._loop.call_soon_threadsafe
        job = take()
        while job is not None:
            jobs = [job]
            try:
                while len(jobs) < GROUP_MAX and (job := take_now()) is not None:
                    jobs.append(job)
            except queue.Empty:
                job = jobs[-1]
            self._group.run(jobs)
            tell(self._delivered, jobs)
            if job is not None:
                job = take()
        tell(self._ended.set_result, None)
