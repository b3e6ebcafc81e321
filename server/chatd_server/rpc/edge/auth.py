"""Who calls: API keys in `authorization: Bearer chatd_...` metadata."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from chatd_server.domain.ids import MICROSECONDS, Instant, OwnerId
from chatd_server.domain.refusal import DatabaseUnavailable, Unauthenticated
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyStore
from chatd_server.service.keys import KEY_PREFIX, key_hash

KEY_CACHE_SECONDS = 5
"""How long a key that was found is trusted. A revoked key stops working within this time on every
replica, and a busy caller costs one database read per period instead of one per RPC."""

KEY_CACHE_ENTRIES_MAX = 10_000
"""Callers that are remembered; about 3 MB."""

KEY_BYTES_MAX = 256
"""Keys of chatd are shorter; checked before anything is hashed."""


class Scope(StrEnum):
    """What a caller may do. Each RPC needs one scope, or none; see `edge.table.Answer`."""

    CHATS = "chats"


PUBLIC_SCOPES = frozenset({Scope.CHATS})
"""What every API key may do: keys cannot be limited yet."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and what it may do."""

    owner_id: OwnerId
    key_id: str
    scopes: frozenset[Scope]


class _Known(msgspec.Struct, frozen=True):
    caller: Caller
    until: Instant


class Authenticator:
    """Finds the caller by the metadata of a request.

    Keys are found by the SHA-256 of their 256 random bits, here and in the database. How long a
    comparison takes depends on the hash alone, so it reveals nothing about a key.
    """

    def __init__(
        self, keys: KeyStore, clock: Clock, scopes: frozenset[Scope] = PUBLIC_SCOPES
    ) -> None:
        self._scopes = scopes
        self._keys = keys
        self._clock = clock
        self._known: dict[bytes, _Known] = {}

    async def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return who calls; raises Unauthenticated, DatabaseUnavailable."""
        digest = key_hash(_key_of(metadata))
        known = self._known.get(digest)
        if known is not None and self._clock.now() < known.until:
            return known.caller
        return await self._look_up(digest)

    async def _look_up(self, digest: bytes) -> Caller:
        record = await self._keys.find_key(digest)
        if record is None:
            self._known.pop(digest, None)
            raise Unauthenticated(
                "this key is unknown or was revoked; make another with `chatd keys create`"
            )
        caller = Caller(record.owner_id, record.id, self._scopes)
        if len(self._known) >= KEY_CACHE_ENTRIES_MAX:
            self._known.clear()
        until = self._clock.now() + KEY_CACHE_SECONDS * MICROSECONDS
        self._known[digest] = _Known(caller, until)
        return caller

    async def still(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Check the key of an open stream again; raises Unauthenticated.

        Of all streams of a key, one asks the database; the others trust the key until it has an
        answer. A database that cannot be reached revokes nothing.
        """
        metadata = tuple(metadata)
        digest = key_hash(_key_of(metadata))
        known = self._known.get(digest)
        now = self._clock.now()
        if known is not None and now < known.until:
            return
        if known is not None:
            until = now + KEY_CACHE_SECONDS * MICROSECONDS
            self._known[digest] = _Known(known.caller, until)
        try:
            await self._look_up(digest)
        except DatabaseUnavailable:
            return


def _key_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    given = [value for name, value in metadata if name == "authorization"]
    if not given:
        raise Unauthenticated(
            f'the call has no authorization metadata; send "authorization: Bearer {KEY_PREFIX}..."'
            ". The first start of the server wrote a key to root.key in its home folder"
        )
    if len(given) > 1:
        # A proxy may have checked a different one than we would use.
        raise Unauthenticated("the call has more than one authorization metadata; send one")
    scheme, _, key = str(given[0]).partition(" ")
    if scheme.lower() == "bearer" and len(key) <= KEY_BYTES_MAX:
        key = key.strip()
        if key.startswith(KEY_PREFIX):
            return key
    raise Unauthenticated(
        f'the authorization metadata must be "Bearer {KEY_PREFIX}...", with an API key'
    )
