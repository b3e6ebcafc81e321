"""The exam of every key store."""

import pytest

from chatd_server.domain.ids import OwnerId
from chatd_server.ports.keys import KeyRecord, KeyStore
from chatd_server.ports.store import Store
from tests.store.conftest import Stores, key_store

HASH = bytes(range(32))


@pytest.fixture
def keys(store: Store) -> KeyStore:
    """Give the keys of a fresh database."""
    return key_store(store)


async def test_a_key_is_found_by_its_hash_and_by_nothing_else(keys: KeyStore) -> None:
    """Only the hash is stored, and only the whole hash counts."""
    record = KeyRecord("k1", OwnerId("ann"), "laptop \x1e 👩‍💻", 7)
    await keys.add_key(record, HASH)

    assert await keys.find_key(HASH) == record
    assert await keys.find_key(HASH[:-1]) is None
    assert await keys.find_key(HASH[::-1]) is None


async def test_a_revoked_key_is_not_found_and_stays_listed(keys: KeyStore) -> None:
    """Revoking counts once; the list remembers when."""
    await keys.add_key(KeyRecord("k1", OwnerId("ann"), "a", 7), HASH)

    assert await keys.revoke_key("k1", 9)
    assert not await keys.revoke_key("k1", 10)
    assert not await keys.revoke_key("absent", 10)

    assert await keys.find_key(HASH) is None
    assert [record.revoked_at for record in await keys.list_keys()] == [9]


async def test_keys_are_listed_newest_first(keys: KeyStore) -> None:
    """A person who made a key just now sees it at the top."""
    for n in (2, 1, 3):
        await keys.add_key(KeyRecord(f"k{n}", OwnerId("ann"), "", n), bytes([n]) * 32)

    assert [record.id for record in await keys.list_keys()] == ["k3", "k2", "k1"]


async def test_keys_are_there_after_a_restart(stores: Stores, store: Store) -> None:
    """A key is in the database and nowhere else."""
    record = KeyRecord("k1", OwnerId("ann"), "a", 7)
    await key_store(store).add_key(record, HASH)

    again = await stores.reopen(store)

    assert await key_store(again).find_key(HASH) == record
