"""API keys: made, shown once, and stored as a hash."""

import hashlib
import secrets
from collections.abc import Sequence

import msgspec

from chatd_server.domain.ids import OwnerId, new_uuid
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyRecord, KeyStore

KEY_PREFIX = "chatd_"
"""How every key begins, so that scanners for leaked secrets find it."""

KEY_RANDOM_BYTES = 32
"""256 bits cannot be guessed, so a plain hash is enough: no salt, no slow function."""

ROOT_OWNER = OwnerId("root")
"""Owner of the root key."""

OWNER_CHARACTERS_MAX = 128


ROOT_ID_PREFIX = "root-"
"""How ids of root keys begin; the ids of other keys are UUIDs."""


class RootKey(msgspec.Struct, frozen=True):
    """The root key of a home, as the database knows it."""

    record: KeyRecord
    #: Whether this start registered it.
    is_new: bool = False

    @property
    def is_revoked(self) -> bool:
        """Whether the database refuses it."""
        return self.record.revoked_at is not None


class Keys:
    """For operators only."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, owner_id: OwnerId, name: str) -> tuple[KeyRecord, str]:
        """Make a key; return its record, and the key itself, which is stored nowhere."""
        key = new_key()
        record = KeyRecord(
            id=new_uuid(self._clock.now()),
            owner_id=owner_id,
            name=name,
            created_at=self._clock.now(),
        )
        await self._store.add_key(record, key_hash(key))
        return record, key

    async def page(self) -> Sequence[KeyRecord]:
        """Return all keys, newest first."""
        return await self._store.list_keys()

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; say whether it existed and was not revoked before."""
        return await self._store.revoke_key(key_id, self._clock.now())

    async def find(self, key_id: str) -> KeyRecord | None:
        """Return the key with this id; None when it is unknown or was revoked."""
        keys = await self._store.list_keys()
        return next((it for it in keys if it.id == key_id and it.revoked_at is None), None)

    async def ensure_root(self, key: str, name: str) -> RootKey:
        """Register a home's root key with this database. A root key that was revoked stays so.

        `name` is for the list of keys.
        """
        digest = key_hash(key)
        if (known := await self._store.find_key(digest)) is not None:
            return RootKey(known)
        key_id = f"{ROOT_ID_PREFIX}{digest.hex()[:16]}"
        for it in await self._store.list_keys():
            if it.id == key_id:
                return RootKey(it)
        record = KeyRecord(key_id, ROOT_OWNER, name, created_at=self._clock.now())
        await self._store.add_key(record, digest)
        return RootKey(record, is_new=True)


def is_root(record: KeyRecord) -> bool:
    """Say whether a key is the root key of a home, which commands use by default."""
    return record.id.startswith(ROOT_ID_PREFIX)


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)


def key_hash(key: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).digest()
