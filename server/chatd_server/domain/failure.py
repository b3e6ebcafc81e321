"""Failures of models as data: the closed list of kinds, and what follows from each.

Only the adapter of a vendor reads a vendor's words; all other code reads these kinds.
"""

from enum import StrEnum

import msgspec


class ErrorKind(StrEnum):
    """Why a model call or a turn failed; mirrors `chatd.v1.ErrorKind`."""

    GENERIC = "generic"
    OVERLOADED = "overloaded"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    STREAM_SILENCE = "stream_silence"
    AUTH = "auth"
    CONFIG = "config"
    USAGE_LIMIT = "usage_limit"
    MISSING_KEY = "missing_key"
    PROVIDER_DISABLED = "provider_disabled"
    CONTENT_FILTER = "content_filter"
    CONTEXT_EXCEEDED = "context_exceeded"
    OUTPUT_TOO_LARGE = "output_too_large"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal"


RETRYABLE_KINDS = frozenset(
    {ErrorKind.OVERLOADED, ErrorKind.RATE_LIMIT, ErrorKind.TIMEOUT, ErrorKind.STREAM_SILENCE}
)
"""Kinds that are tried again unless the failure itself says otherwise."""


class ChatError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failure, as it is stored and shown."""

    kind: ErrorKind
    #: One sentence for people; never a key or a URL with credentials.
    message: str
    #: The vendor's own words, shortened.
    detail: str = ""
    provider: str = ""
    retryable: bool = False
    http_status: int | None = None
    #: How long the vendor asked to wait, in seconds.
    retry_after_seconds: float | None = None


class ModelFailure(Exception):
    """An attempt failed: at the vendor, or because it gave more than an attempt may hold."""

    def __init__(self, error: ChatError) -> None:
        super().__init__(f"{error.kind}: {error.message}")
        self.error = error


def failure(
    kind: ErrorKind,
    message: str,
    *,
    provider: str = "",
    detail: str = "",
    http_status: int | None = None,
    retryable: bool | None = None,
    retry_after_seconds: float | None = None,
) -> ModelFailure:
    """Return a failure; `retryable` follows from its kind unless it is given."""
    return ModelFailure(
        ChatError(
            kind=kind,
            message=message,
            detail=detail[:1000],
            provider=provider,
            retryable=kind in RETRYABLE_KINDS if retryable is None else retryable,
            http_status=http_status,
            retry_after_seconds=retry_after_seconds,
        )
    )
