"""API keys in PostgreSQL."""

from collections.abc import Sequence

from chatd_server.domain.ids import Instant
from chatd_server.ports.keys import KeyRecord
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.rows import KEY


class PostgresKeyStore:
    """`ports.KeyStore` on the store's connections."""

    def __init__(self, store: PostgresStore) -> None:
        self._readers = store.readers

    async def add_key(self, record: KeyRecord, key_hash: bytes) -> None:
        async with self._readers.use() as link:
            await link.execute(sql.INSERT_KEY, key_hash, *KEY.values(record))

    async def find_key(self, key_hash: bytes) -> KeyRecord | None:
        async with self._readers.use() as link:
            row = await link.fetchrow(*sql.FIND_KEY(key_hash=key_hash))
        return None if row is None else KeyRecord(*row)

    async def list_keys(self) -> Sequence[KeyRecord]:
        async with self._readers.use() as link:
            return [KeyRecord(*row) for row in await link.fetch(*sql.LIST_KEYS())]

    async def revoke_key(self, key_id: str, at: Instant) -> bool:
        async with self._readers.use() as link:
            return await link.fetchval(*sql.REVOKE_KEY(id=key_id, at=at)) is not None
