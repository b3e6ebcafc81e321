"""API keys in SQLite."""

from collections.abc import Sequence

from chatd_server.domain.ids import Instant
from chatd_server.ports.keys import KeyRecord
from chatd_server.store.sqlite import reads
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.store import SqliteStore


class SqliteKeyStore:
    """`ports.KeyStore` on the store's file, through its writer and its readers."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def add_key(self, record: KeyRecord, key_hash: bytes) -> None:
        await self._store.write(sql.INSERT_KEY, sql.KEY.values(record, key_hash))

    async def find_key(self, key_hash: bytes) -> KeyRecord | None:
        return await self._store.readers.read(reads.find_key, key_hash)

    async def list_keys(self) -> Sequence[KeyRecord]:
        return await self._store.readers.read(reads.list_keys)

    async def revoke_key(self, key_id: str, at: Instant) -> bool:
        return await self._store.write(sql.REVOKE_KEY, {"id": key_id, "at": at}) > 0
