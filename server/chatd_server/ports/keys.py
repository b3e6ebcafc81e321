"""API keys."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from chatd_server.domain.ids import Instant, OwnerId


class KeyRecord(msgspec.Struct, frozen=True):
    """An API key, without the key itself: only a hash is stored."""

    id: str
    owner_id: OwnerId
    name: str
    created_at: Instant
    revoked_at: Instant | None = None


class KeyStore(Protocol):
    """API keys."""

    async def add_key(self, record: KeyRecord, key_hash: bytes) -> None:
        """Add a key."""

    async def find_key(self, key_hash: bytes) -> KeyRecord | None:
        """Return the key with this hash unless it was revoked."""

    async def list_keys(self) -> Sequence[KeyRecord]:
        """Return all keys, newest first."""

    async def revoke_key(self, key_id: str, at: Instant) -> bool:
        """Revoke a key; say whether there was one."""
