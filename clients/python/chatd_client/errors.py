"""What can go wrong, as exceptions: one class for each thing that a program would do about it.

    ChatdError
    ├── InvalidRequest           fix the request; `violations` lists every broken rule
    ├── NotFound                 no such chat or message, or not yours
    ├── Conflict                 the chat's state forbids it; `reason` and `metadata` say why
    ├── PermissionDenied         no key, a wrong key, or a key that may not do this
    ├── NotImplementedByServer   this server does not have it (yet)
    ├── StreamLost               the cursor is not in the log any more; start again without it
    └── Unavailable              try again later (the client did, several times)

Every error of the server carries a stable `reason` (see the error catalogue).
"""

from typing import cast

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_status import rpc_status


class ChatdError(Exception):
    """An answer of the server that is not success.

    `reason` is stable ("CHAT_NOT_FOUND"), empty when the network and not the server said no.
    `retry_seconds` is what the server asked to wait, None when it did not.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: dict[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = metadata or {}
        self.violations = violations
        self.retry_seconds = retry_seconds


class InvalidRequest(ChatdError):
    """The request breaks a rule; `violations` are (field, description) pairs."""


class NotFound(ChatdError):
    """No such chat or message, or it belongs to somebody else."""


class Conflict(ChatdError):
    """The chat's state forbids it."""


class PermissionDenied(ChatdError):
    """No key, a wrong key, or a key that may not do this."""


class NotImplementedByServer(ChatdError):
    """This server knows the request but does not implement it."""


class StreamLost(ChatdError):
    """The cursor is not in the log (any more): subscribe again without one."""


class Unavailable(ChatdError):
    """The server cannot be reached or cannot answer now."""


_BY_CODE: dict[grpc.StatusCode, type[ChatdError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedByServer,
    grpc.StatusCode.OUT_OF_RANGE: StreamLost,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}

_CUT_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    }
)


def from_rpc(error: grpc.aio.AioRpcError) -> ChatdError:
    """Return the exception that an RPC error means."""
    found = _BY_CODE.get(error.code(), ChatdError)
    message = error.details() or error.code().name
    status = rpc_status.from_call(cast("grpc.Call", error))
    if status is None:
        # Not the server said so but grpc: the message is larger than grpc takes.
        too_large = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return InvalidRequest(message) if too_large else found(message)
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        has_retry |= bool(detail.Unpack(retry))
    return found(
        message,
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=tuple((v.field, v.description) for v in bad.field_violations),
        retry_seconds=retry.retry_delay.ToTimedelta().total_seconds() if has_retry else None,
    )


def may_try_again(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the same call may succeed later: the network failed, or the server said so.

    RESOURCE_EXHAUSTED is grpc's word for three unrelated things; only with the server's own
    RetryInfo is it a reason to wait.
    """
    known = from_rpc(error)
    if known.reason:
        return known.retry_seconds is not None
    return error.code() in _CUT_CODES
