"""API keys of a database file, from a second process: `chatd keys` while a server runs.

Writes bypass the server's writer thread. That is safe for keys only: no process caches them or
decides on them, and SQLite lets one writer in at a time.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from chatd_server.domain.ids import Instant
from chatd_server.ports.keys import KeyRecord
from chatd_server.store.shared.upgrade import check_version
from chatd_server.store.sqlite import files, reads
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.failures import translated
from chatd_server.store.sqlite.migrate import migrate, schema_version

T = TypeVar("T")


class SqliteKeyFile:
    """`ports.KeyStore` without a store. Each method blocks until its statement is done."""

    def __init__(self, path: Path) -> None:
        """Make the file if there is none. Raises SchemaOutdated, SchemaTooNew, DatabaseInUse."""
        if schema_version(path) is None:
            lock = files.FileLock(path)
            try:
                migrate(path)
            finally:
                lock.release()
        check_version(schema_version(path))
        self._path = path

    async def add_key(self, record: KeyRecord, key_hash: bytes) -> None:
        row = sql.KEY.values(record, key_hash)
        self._with(lambda cursor: cursor.execute(sql.INSERT_KEY, row))

    async def find_key(self, key_hash: bytes) -> KeyRecord | None:
        return self._with(lambda cursor: reads.find_key(cursor, key_hash))

    async def list_keys(self) -> Sequence[KeyRecord]:
        return self._with(reads.list_keys)

    async def revoke_key(self, key_id: str, at: Instant) -> bool:
        key = {"id": key_id, "at": at}
        return self._with(lambda cursor: cursor.execute(sql.REVOKE_KEY, key).rowcount) > 0

    def _with(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        try:
            with closing(files.writing(self._path)) as connection:
                return work(connection.cursor())
        except sqlite3.Error as error:
            raise translated(error) from error
