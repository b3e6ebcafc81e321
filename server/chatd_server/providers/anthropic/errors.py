"""Anthropic's failures by kind. The only place that knows the vendor's words."""

from collections.abc import Mapping

import msgspec

from chatd_server.domain.failure import ErrorKind, ModelFailure, failure
from chatd_server.providers.anthropic.wire import ErrorBody
from chatd_server.providers.http.transport import Cause, TransportFailure

PROVIDER = "anthropic"

_MESSAGES = {
    ErrorKind.OVERLOADED: "Anthropic is temporarily overloaded.",
    ErrorKind.RATE_LIMIT: "Anthropic limits the rate of requests.",
    ErrorKind.TIMEOUT: "Anthropic is temporarily unavailable.",
    ErrorKind.AUTH: "Anthropic refused the API key. Check the key and its permissions.",
    ErrorKind.USAGE_LIMIT: "The budget of the Anthropic account is used up. Check its billing.",
    ErrorKind.CONFIG: "Anthropic refused the request. Check the model and its settings.",
    ErrorKind.CONTEXT_EXCEEDED: "The context is longer than the model takes.",
    ErrorKind.GENERIC: "Anthropic returned an unexpected error.",
}

_BY_TYPE = {
    "overloaded_error": ErrorKind.OVERLOADED,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "timeout_error": ErrorKind.TIMEOUT,
    "authentication_error": ErrorKind.AUTH,
    "permission_error": ErrorKind.AUTH,
    "billing_error": ErrorKind.USAGE_LIMIT,
    "not_found_error": ErrorKind.CONFIG,
    "request_too_large": ErrorKind.CONTEXT_EXCEEDED,
    "invalid_request_error": ErrorKind.CONFIG,
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

_CONTEXT_WORDS = ("prompt is too long", "exceed context limit", "context window")
_RETRIED_GENERIC_TYPES = frozenset({"api_error", "conflict_error"})
_RETRIED_GENERIC_STATUSES = frozenset({409, 500})


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> ModelFailure:
    """Return the failure that an HTTP answer with an error status means."""
    error = _error_body(body)
    retry = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    return _failure(
        error,
        status=status,
        retryable=retry,
        retry_after_seconds=_seconds(headers.get("retry-after", "")),
    )


def from_event(error: ErrorBody) -> ModelFailure:
    """Return the failure that an error event inside a stream means."""
    return _failure(error, status=None, retryable=None, retry_after_seconds=None)


def from_transport(error: TransportFailure) -> ModelFailure:
    """Return the failure that a broken connection means; an address that is no URL is ours."""
    retryable = not (error.cause is Cause.PROTOCOL and "address" in str(error))
    kind = ErrorKind.TIMEOUT if retryable else ErrorKind.CONFIG
    return failure(kind, _MESSAGES[kind], provider=PROVIDER, detail=str(error))


def cut() -> ModelFailure:
    """Return the failure of a stream that ended without its terminal event."""
    return failure(
        ErrorKind.TIMEOUT,
        "The stream of Anthropic's answer ended before the answer was complete.",
        provider=PROVIDER,
    )


def _failure(
    error: ErrorBody,
    *,
    status: int | None,
    retryable: bool | None,
    retry_after_seconds: float | None,
) -> ModelFailure:
    kind = _kind(error, status)
    if retryable is None and kind is ErrorKind.GENERIC:
        retryable = error.type in _RETRIED_GENERIC_TYPES or status in _RETRIED_GENERIC_STATUSES
    return failure(
        kind,
        _MESSAGES[kind],
        provider=PROVIDER,
        detail=error.message[:500],
        http_status=status,
        retryable=retryable,
        retry_after_seconds=retry_after_seconds,
    )


def _kind(error: ErrorBody, status: int | None) -> ErrorKind:
    kind = _BY_TYPE.get(error.type) or _BY_STATUS.get(status or 0, ErrorKind.GENERIC)
    words = error.message.lower()
    if kind is ErrorKind.CONFIG and any(phrase in words for phrase in _CONTEXT_WORDS):
        return ErrorKind.CONTEXT_EXCEEDED
    if kind is ErrorKind.CONFIG and "credit balance" in words:
        return ErrorKind.USAGE_LIMIT
    return kind


class _ErrorAnswer(msgspec.Struct):
    error: ErrorBody = ErrorBody()


def _error_body(body: bytes) -> ErrorBody:
    """Return the error of a body; one that is no JSON (a page of a proxy) is its own message."""
    try:
        return msgspec.json.decode(body, type=_ErrorAnswer).error
    except msgspec.DecodeError:
        return ErrorBody(message=body[:500].decode(errors="replace").strip())


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
