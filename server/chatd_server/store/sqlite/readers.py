"""A few threads that read, each with its own connection. No read waits for the writer.

A read transaction never outlives one call: an open one would keep the write-ahead log from being
reused. Reads of several calls are as of one revision (see `reads`).
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.store.sqlite.failures import translated

READERS = 4
"""Threads that read. Reads are short, and Python runs one of them at a time anyway; a few let
decoding go on while others wait for the disk."""

T = TypeVar("T")


class Readers:
    """Runs a function on a reader's cursor, in one read transaction."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(READERS, "chatd-reader")

    async def read(self, query: Callable[..., T], *arguments: Any) -> T:
        """Return `query(cursor, *arguments)`; raises its errors, and DatabaseUnavailable."""
        if self._closed:
            raise DatabaseUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._run, query, arguments)

    async def close(self) -> None:
        """Let running reads end, and close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _run(self, query: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            cursor = self._cursor()
            cursor.execute("BEGIN")
            try:
                return query(cursor, *arguments)
            finally:
                cursor.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translated(error) from error

    def _cursor(self) -> sqlite3.Cursor:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect()
            with self._lock:
                self._connections.append(connection)
        return connection.cursor()
