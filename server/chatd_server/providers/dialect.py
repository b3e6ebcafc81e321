"""How failures of vendors are classified: the part that all vendors share.

A vendor's folder maps its own error types and texts. HTTP statuses, broken connections and the
messages for people are the same for all vendors.
"""

from collections.abc import Mapping

import msgspec

from chatd_server.domain.failure import ErrorKind, ModelFailure, failure
from chatd_server.providers.http.causes import Cause, TransportFailure

DETAIL_CHARACTERS_MAX = 500
"""How much of the vendor's message is kept."""

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
"""Statuses of unexpected errors that are often temporary."""


class VendorError(msgspec.Struct, frozen=True):
    """A failure as the vendor reports it."""

    #: The vendor's error type; empty if it gave none.
    type: str = ""
    message: str = ""
    #: HTTP status; None for an error within a stream.
    status: int | None = None
    headers: Mapping[str, str] = {}


class Dialect(msgspec.Struct, frozen=True):
    """How the failures of one vendor are classified."""

    provider: str
    #: The vendor's name for people.
    vendor: str
    by_type: Mapping[str, ErrorKind]
    #: Types of unexpected errors that are often temporary.
    retried_types: frozenset[str] = frozenset()
    #: Lower-case texts that give a refused request a more exact kind.
    by_words: tuple[tuple[str, ErrorKind], ...] = ()

    def failure(self, error: VendorError) -> ModelFailure:
        """Return the failure that the vendor reported."""
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
        """Return the failure for a broken connection; a wrong address is a configuration error."""
        kind = ErrorKind.CONFIG if error.cause is Cause.ADDRESS else ErrorKind.TIMEOUT
        return failure(kind, self._sentence(kind), provider=self.provider, detail=str(error))

    def cut(self) -> ModelFailure:
        """Return the failure for a stream that ended without its terminal event."""
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
