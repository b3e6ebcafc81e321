"""Page sizes, and page tokens: opaque to clients, signed, and bound to their list.

A token is an HMAC and the position where its page begins. The HMAC covers the position, the owner,
the method and the filters. The secret is in the database, so a token works on all its servers and
after a restart. A signed position is validated too, because it reaches SQL.
"""

import base64
import hashlib
import hmac
import re

import msgspec

from chatd_server.domain.ids import OwnerId
from chatd_server.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from chatd_server.domain.refusal import InvalidRequest, Violation

PURPOSE = "page_token"
"""What the secret in the database is for."""

FORMAT = "chatd page token 1"
"""Signed with every token, so that a token of another format is never accepted."""

SIGNATURE_BYTES = 16
"""128 bits of HMAC-SHA256 cannot be guessed online."""

TOKEN_CHARACTERS_MAX = 256
"""Tokens have at most 75; checked before anything is decoded."""

_NUMBER = re.compile(r"-?[0-9]{1,19}")
_NUMBER_END = 2**63


class PageTokens:
    """The tokens of one database."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, owner_id: OwnerId, method: str, *filters: object) -> "ListTokens":
        """Return the tokens of one list. Filters are values that become JSON, in a fixed order."""
        return ListTokens(self._secret, msgspec.json.encode([FORMAT, owner_id, method, filters]))


class ListTokens:
    """The tokens of one list."""

    def __init__(self, secret: bytes, name: bytes) -> None:
        self._secret = secret
        self._name = name

    def token(self, key: str | None) -> str:
        """Return the token of the page after a key; empty after the last page."""
        if key is None:
            return ""
        position = key.encode()
        return _text(self._signature(position) + position)

    def key(self, token: str, *, numbers: int) -> str | None:
        """Return the key after which the page begins; None for the first page.

        A key is `numbers` 64-bit numbers with dots between them. Raises InvalidRequest for a token
        that does not come from this list with these filters.
        """
        if not token:
            return None
        packed = _unpacked(token)
        position = packed[SIGNATURE_BYTES:]
        if not hmac.compare_digest(packed[:SIGNATURE_BYTES], self._signature(position)):
            raise _wrong()
        key = position.decode(errors="replace")
        found = key.split(".")
        if len(found) != numbers or not all(map(_is_number, found)):
            raise _wrong()
        return key

    def _signature(self, position: bytes) -> bytes:
        # The name is a JSON list, so where it ends and the position begins is unambiguous.
        return hmac.digest(self._secret, self._name + position, hashlib.sha256)[:SIGNATURE_BYTES]


def size_of(page_size: int) -> int:
    """Return how many items a page has at most: 0 means the default, more than the cap the cap."""
    return min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _unpacked(token: str) -> bytes:
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise _wrong()
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise _wrong() from error
    # Base64 has several texts for the same bytes; only the one that we made is a token.
    if _text(packed) != token:
        raise _wrong()
    return packed


def _text(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and -_NUMBER_END <= int(text) < _NUMBER_END


def _wrong() -> InvalidRequest:
    return InvalidRequest(
        Violation(
            "page_token",
            "not a token of this list: keep the filters of the first page, "
            "or start again without a token",
        )
    )
