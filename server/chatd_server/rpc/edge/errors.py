"""The table from exceptions of the domain to status codes, and how a status is packed.

Every error carries exactly one ErrorInfo (domain "chatd", a reason of `chatd.v1.ErrorReason`)
and at most one of BadRequest, PreconditionFailure, QuotaFailure, RetryInfo and ResourceInfo.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import grpc
import msgspec
from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)

from chatd_server.domain.limits import ERROR_DETAILS_BYTES_MAX
from chatd_server.domain.refusal import (
    CursorAhead,
    CursorExpired,
    EtagMismatch,
    InvalidRequest,
    NotFound,
    NotImplementedHere,
    PermissionDenied,
    QueueFull,
    Refused,
    RequestIdReused,
    TooManyStreams,
    Unauthenticated,
    Unavailable,
    Violation,
    WrongStatus,
)
from chatd_server.domain.text import well_formed
from chatd_server.rpc import convert

ERROR_DOMAIN = "chatd"
"""Domain of every ErrorInfo."""

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC carries google.rpc.Status."""

MESSAGE_BYTES_MAX = 600
"""Status messages are sent percent-encoded, up to three times as long, in the same metadata as the
details: both together stay below 8 KiB, above which peers begin to refuse metadata."""

METADATA_BYTES_MAX = 1024
"""For one value of ErrorInfo.metadata; leaves the rest of the 4 KiB to the other detail."""

DESCRIPTION_BYTES_MAX = 300
"""For the description of one violation, so that many violations fit."""

NEVER_RAISED_YET = frozenset({"RATE_LIMITED"})
"""Reasons of the contract that this version never gives: there are no rate limits yet."""

INTERNAL_REASON = "INTERNAL"


class MalformedRequest(Refused):
    """The bytes are not a request of this RPC."""

    reason = "MALFORMED_REQUEST"


class MessageTooLarge(InvalidRequest):
    """The request is larger than REQUEST_BYTES_MAX, or holds more than REQUEST_VALUES_MAX."""

    reason = "MESSAGE_TOO_LARGE"

    def __init__(self, why: str) -> None:
        super().__init__(Violation("", why))


class Failure(msgspec.Struct, frozen=True):
    """What a caller gets: code, message, and the packed google.rpc.Status."""

    code: grpc.StatusCode
    message: str
    details: bytes


# --- details ---------------------------------------------------------------------------------


def _no_detail(_error: Exception) -> Message | None:
    return None


def _bad_request(error: Exception) -> Message:
    assert isinstance(error, InvalidRequest)
    detail: Message = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=cut(_in_contract(it.field), DESCRIPTION_BYTES_MAX),
                description=cut(it.description, DESCRIPTION_BYTES_MAX),
            )
            for it in error.violations
        ]
    )
    return detail


def _resource(error: Exception) -> Message:
    assert isinstance(error, NotFound)
    detail: Message = error_details_pb2.ResourceInfo(
        resource_type=error.resource_type, resource_name=cut(error.resource_id, 64)
    )
    return detail


def _precondition(error: Exception) -> Message:
    assert isinstance(error, WrongStatus)
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=error.reason, subject="chat", description=cut(str(error), DESCRIPTION_BYTES_MAX)
    )
    detail: Message = error_details_pb2.PreconditionFailure(violations=[violation])
    return detail


def _quota(error: Exception) -> Message:
    subject = "queued messages" if isinstance(error, QueueFull) else "streams"
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=subject, description=cut(str(error), DESCRIPTION_BYTES_MAX)
    )
    detail: Message = error_details_pb2.QuotaFailure(violations=[violation])
    return detail


def _retry(error: Exception) -> Message:
    assert isinstance(error, Unavailable)
    delay = convert.duration(error.retry_seconds)
    detail: Message = error_details_pb2.RetryInfo(retry_delay=delay)
    return detail


class Row(msgspec.Struct, frozen=True):
    """The status of one kind of exception."""

    code: grpc.StatusCode
    detail: Callable[[Exception], Message | None] = _no_detail


TABLE: Mapping[type[Exception], Row] = {
    MalformedRequest: Row(grpc.StatusCode.INVALID_ARGUMENT),
    InvalidRequest: Row(grpc.StatusCode.INVALID_ARGUMENT, _bad_request),
    NotFound: Row(grpc.StatusCode.NOT_FOUND, _resource),
    WrongStatus: Row(grpc.StatusCode.FAILED_PRECONDITION, _precondition),
    EtagMismatch: Row(grpc.StatusCode.ABORTED),
    RequestIdReused: Row(grpc.StatusCode.ALREADY_EXISTS),
    CursorExpired: Row(grpc.StatusCode.OUT_OF_RANGE),
    CursorAhead: Row(grpc.StatusCode.OUT_OF_RANGE),
    Unauthenticated: Row(grpc.StatusCode.UNAUTHENTICATED),
    PermissionDenied: Row(grpc.StatusCode.PERMISSION_DENIED),
    TooManyStreams: Row(grpc.StatusCode.RESOURCE_EXHAUSTED, _quota),
    QueueFull: Row(grpc.StatusCode.RESOURCE_EXHAUSTED, _quota),
    NotImplementedHere: Row(grpc.StatusCode.UNIMPLEMENTED),
    Unavailable: Row(grpc.StatusCode.UNAVAILABLE, _retry),
}
"""A row holds for subclasses too; the nearest row wins."""


def row_of(kind: type[Exception]) -> Row | None:
    """Return the row of a kind of exception; None for a defect of the server."""
    return next((TABLE[base] for base in kind.__mro__ if base in TABLE), None)


def failure_of(error: Exception) -> Failure | None:
    """Return the failure that the caller gets; None for a defect of the server."""
    row = row_of(type(error))
    if row is None:
        return None
    assert isinstance(error, Refused | Unavailable)
    metadata = error.metadata if isinstance(error, Refused) else {}
    return _pack(row.code, str(error), error.reason, metadata, row.detail(error))


async def abort(context: Any, told: "Failure | Refused | Unavailable") -> NoReturn:
    """End a call with an error. Raises grpc's AbortError, which the handler must not catch."""
    failure = told if isinstance(told, Failure) else failure_of(told)
    assert failure is not None
    await context.abort(
        failure.code,
        failure.message,
        trailing_metadata=((DETAILS_KEY, failure.details),),
    )
    raise AssertionError("abort returned")


def internal_failure(error_id: str) -> Failure:
    """Return what a caller gets for a defect: only an id, which the log has too."""
    message = f"the server failed; look for error_id {error_id} in its log"
    return _pack(grpc.StatusCode.INTERNAL, message, INTERNAL_REASON, {"error_id": error_id}, None)


# --- packing ---------------------------------------------------------------------------------


def cut(text: str, bytes_max: int) -> str:
    """Return text as valid UTF-8, cut to at most `bytes_max` bytes."""
    encoded = well_formed(text).encode()
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - 3].decode(errors="ignore") + "..."


def _pack(
    code: grpc.StatusCode,
    message: str,
    reason: str,
    metadata: Mapping[str, str],
    detail: Message | None,
) -> Failure:
    number: int = code.value[0]
    text = cut(message, MESSAGE_BYTES_MAX)
    status = status_pb2.Status(code=number, message=text)
    info = {key: cut(value, METADATA_BYTES_MAX) for key, value in metadata.items()}
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=info)
    )
    if detail is not None:
        if isinstance(detail, error_details_pb2.BadRequest):
            detail = _fitting(detail, ERROR_DETAILS_BYTES_MAX - status.ByteSize())
        status.details.add().Pack(detail)
    return Failure(code=code, message=text, details=status.SerializeToString())


def _fitting(whole: error_details_pb2.BadRequest, room: int) -> error_details_pb2.BadRequest:
    """Return the violations that fit, and a last one that counts the others."""
    room -= 128  # the wrapper's type name, and the sentence about the rest
    fitting = error_details_pb2.BadRequest()
    for number, violation in enumerate(whole.field_violations):
        room -= violation.ByteSize() + 4
        if room < 0:
            rest = len(whole.field_violations) - number
            fitting.field_violations.add(field="", description=f"and {rest} more violations")
            return fitting
        fitting.field_violations.append(violation)
    return fitting


_FIELDS = {"call_id": "tool_call_id", "output": "output_json"}
"""Fields of commands that the contract names otherwise."""


def _in_contract(path: str) -> str:
    """Return the path of a field as the contract names it."""
    parent, dot, name = path.rpartition(".")
    return f"{parent}{dot}{_FIELDS.get(name, name)}" if dot else path
