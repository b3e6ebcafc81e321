"""The files of the SQLite store: their lock, and how a connection is made."""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from chatd_server.store.shared.errors import DatabaseInUse, SqliteTooOld

SQLITE_MIN = (3, 38, 0)
"""RETURNING (3.35), UPDATE FROM (3.33), and JSON functions that every build has (3.38)."""
WAL_BYTES_KEPT = 64 * 1024 * 1024
"""The write-ahead log is cut to this size after a burst made it longer."""

Connect: TypeAlias = Callable[[], sqlite3.Connection]


_MIGRATES = "migrates"
"""Stands after the process id in a lock file until its holder serves."""


class FileLock:
    """The right of one process to a database file; ends with the process, also when it is killed.

    The file says who holds it: a process that migrates, until it `serves`.
    """

    def __init__(self, database: Path) -> None:
        """Take the lock; raises DatabaseInUse."""
        # Conversations are private; SQLite gives its other files the mode of this one.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path = database.with_name(database.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, _, what = os.read(self._file, 32).decode(errors="replace").partition(" ")
            os.close(self._file)
            migrates = what.strip() == _MIGRATES
            raise DatabaseInUse(str(database), holder.strip(), migrates=migrates) from None
        self._say(f"{os.getpid()} {_MIGRATES}\n")

    def serves(self) -> None:
        """Note that the holder is a server from here on, which nobody needs to wait for."""
        self._say(f"{os.getpid()}\n")

    def _say(self, who: str) -> None:
        # For the message of a process that finds the lock taken. A full disk is reported later, by
        # the database.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, who.encode(), 0)

    def release(self) -> None:
        """Release the lock. The file stays: to remove it would be a race."""
        os.close(self._file)


def writing(path: Path) -> sqlite3.Connection:
    """Open the writer's connection: a commit is on the disk before it is acknowledged."""
    connection = _connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    return connection


def reading(path: Path) -> sqlite3.Connection:
    """Open a reader's connection."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise SqliteTooOld(sqlite3.sqlite_version, ".".join(map(str, SQLITE_MIN)))
    # The store begins and ends transactions; one thread at a time uses a connection.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
