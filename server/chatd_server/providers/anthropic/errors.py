"""Anthropic's error types and messages, and where to find them in a response."""

from collections.abc import Mapping

import msgspec

from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.providers.anthropic.wire import ErrorBody
from chatd_server.providers.dialect import DETAIL_CHARACTERS_MAX, Dialect, VendorError

PROVIDER = "anthropic"

DIALECT = Dialect(
    provider=PROVIDER,
    vendor="Anthropic",
    by_type={
        "overloaded_error": ErrorKind.OVERLOADED,
        "rate_limit_error": ErrorKind.RATE_LIMIT,
        "timeout_error": ErrorKind.TIMEOUT,
        "authentication_error": ErrorKind.AUTH,
        "permission_error": ErrorKind.AUTH,
        "billing_error": ErrorKind.USAGE_LIMIT,
        "not_found_error": ErrorKind.CONFIG,
        "request_too_large": ErrorKind.CONTEXT_EXCEEDED,
        "invalid_request_error": ErrorKind.CONFIG,
    },
    retried_types=frozenset({"api_error", "conflict_error"}),
    by_words=(
        ("prompt is too long", ErrorKind.CONTEXT_EXCEEDED),
        ("exceed context limit", ErrorKind.CONTEXT_EXCEEDED),
        ("context window", ErrorKind.CONTEXT_EXCEEDED),
        ("credit balance", ErrorKind.USAGE_LIMIT),
    ),
)


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> ModelFailure:
    """Classify an HTTP response with an error status."""
    error = _error_body(body)
    return DIALECT.failure(VendorError(error.type, error.message, status, headers))


def from_event(error: ErrorBody) -> ModelFailure:
    """Classify an error event within a stream."""
    return DIALECT.failure(VendorError(error.type, error.message))


class _ErrorAnswer(msgspec.Struct):
    error: ErrorBody = ErrorBody()


def _error_body(body: bytes) -> ErrorBody:
    """Return the error in a body. A body that is not JSON (a proxy's page) becomes the message."""
    try:
        return msgspec.json.decode(body, type=_ErrorAnswer).error
    except msgspec.DecodeError:
        words = body[:DETAIL_CHARACTERS_MAX].decode(errors="replace").strip()
        return ErrorBody(message=words)
