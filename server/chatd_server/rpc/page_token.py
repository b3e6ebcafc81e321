"""Page tokens: opaque to clients, bound to the list that they came from."""

import base64
import hashlib

import msgspec

from chatd_server.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from chatd_server.domain.refusal import InvalidRequest, Violation


class _Token(msgspec.Struct, frozen=True, array_like=True):
    key: str
    fingerprint: str


def encode(key: str | None, query: object) -> str:
    """Return the token of the page that begins behind a key; empty at the end."""
    if key is None:
        return ""
    packed = msgspec.json.encode(_Token(key, _fingerprint(key, query)))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(token: str, query: object) -> str | None:
    """Return the key behind which the page begins; None for the first page.

    Raises InvalidRequest for a token that this list, with these filters, did not give.
    """
    if not token:
        return None
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        known = msgspec.json.decode(packed, type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise _wrong("is no token of this server; begin again without one") from error
    if known.fingerprint != _fingerprint(known.key, query):
        raise _wrong("belongs to another list; keep the filters of the first page")
    return known.key


def size_of(page_size: int) -> int:
    """Return how many items a page has at most: 0 means the default, more than the cap the cap."""
    return min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _fingerprint(key: str, query: object) -> str:
    return hashlib.blake2b(repr((key, query)).encode(), digest_size=8).hexdigest()


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(Violation("page_token", what))
