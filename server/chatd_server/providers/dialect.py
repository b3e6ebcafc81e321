"""How failures of vendors are named: the part that all vendors share.

A vendor's folder says which of its words mean what; statuses of HTTP, broken connections and the
sentences for people are the same for all.
"""

from collections.abc import Mapping

import msgspec

from chatd_server.domain.failure import ErrorKind, ModelFailure, failure
from chatd_server.providers.http.causes import Cause, TransportFailure

DETAIL_CHARACTERS_MAX = 500
"""How much of a vendor's own words is kept."""

_SENTENCES = {
    ErrorKind.OVERLOADED: "{} is temporarily overloaded.",
    ErrorKind.RATE_LIMIT: "{} limits the rate of requests.",
    ErrorKind.TIMEOUT: "{} is temporarily unavailable.",
    ErrorKind.AUTH: "{} refused the API key. Check the key and its permissions.",
    ErrorKind.USAGE_LIMIT: "The budget of the {} account is used up. Check its billing.",
    ErrorKind.CONFIG: "{} refused the request. Check the model and its settings.",
    ErrorKind.CONTEXT_EXCEEDED: "The context is longer than the model takes.",
    ErrorKind.GENERIC: "{} returned an unexpected error.",
}

_BY_STATUS = {
    400: ErrorKind.CONFIG,
    401: ErrorKind.AUTH,
    402: ErrorKind.USAGE_LIMIT,
    403: ErrorKind.AUTH,
    404: ErrorKind.CONFIG,
    408: ErrorKind.TIMEOUT,
    413: ErrorKind.CONTEXT_EXCEEDED,
    429: ErrorKind.RATE_LIMIT,
    502: ErrorKind.TIMEOUT,
    503: ErrorKind.TIMEOUT,
    504: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
}

_RETRIED_STATUSES = frozenset({409, 500})
"""Statuses of unexpected errors that often pass."""


class VendorError(msgspec.Struct, frozen=True):
    """A failure in the vendor's words."""

    #: The vendor's name of it; empty when it gave none.
    type: str = ""
    message: str = ""
    #: Of HTTP; None for an error inside a stream.
    status: int | None = None
    headers: Mapping[str, str] = {}


class Dialect(msgspec.Struct, frozen=True):
    """What the failures of one vendor mean."""

    provider: str
    #: The vendor's name for people.
    vendor: str
    by_type: Mapping[str, ErrorKind]
    #: Types of unexpected errors that often pass.
    retried_types: frozenset[str] = frozenset()
    #: Words, in lower case, by which a refused request is known as something more exact.
    by_words: tuple[tuple[str, ErrorKind], ...] = ()

    def failure(self, error: VendorError) -> ModelFailure:
        """Return the failure that the vendor reports."""
        kind = self._kind(error)
        retryable = {"true": True, "false": False}.get(error.headers.get("x-should-retry", ""))
        if retryable is None and kind is ErrorKind.GENERIC:
            retryable = error.type in self.retried_types or error.status in _RETRIED_STATUSES
        return failure(
            kind,
            self._sentence(kind),
            provider=self.provider,
            detail=error.message[:DETAIL_CHARACTERS_MAX],
            http_status=error.status,
            retryable=retryable,
            retry_after_seconds=_seconds(error.headers.get("retry-after", "")),
        )

    def unreachable(self, error: TransportFailure) -> ModelFailure:
        """Return the failure that a broken connection means; a wrong address is configured here."""
        kind = ErrorKind.CONFIG if error.cause is Cause.ADDRESS else ErrorKind.TIMEOUT
        return failure(kind, self._sentence(kind), provider=self.provider, detail=str(error))

    def cut(self) -> ModelFailure:
        """Return the failure of a stream that ended without its terminal event."""
        return failure(
            ErrorKind.TIMEOUT,
            f"The stream of {self.vendor}'s answer ended before the answer was complete.",
            provider=self.provider,
        )

    def _sentence(self, kind: ErrorKind) -> str:
        return _SENTENCES[kind].format(self.vendor)

    def _kind(self, error: VendorError) -> ErrorKind:
        kind = self.by_type.get(error.type) or _BY_STATUS.get(error.status or 0, ErrorKind.GENERIC)
        if kind is not ErrorKind.CONFIG:
            return kind
        words = error.message.lower()
        return next((exact for phrase, exact in self.by_words if phrase in words), kind)


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
