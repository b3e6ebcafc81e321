"""Exceptions: one class for each thing that a program can do about an error.

    ChatdError
    ├── InvalidRequest           fix the request; `violations` lists every broken rule
    ├── NotFound                 no such chat or message, or not yours
    ├── Conflict                 the chat's state forbids it; `reason` and `metadata` say why
    ├── PermissionDenied         no key, a wrong key, or a key that may not do this
    ├── NotImplementedByServer   this server does not have it (yet)
    ├── StreamLost               the cursor is not in the log any more; start again without it
    ├── TurnFailed               the model gave no answer; `kind` and `retryable` say what to do
    └── Unavailable              try again later (the client did, for `retry_seconds`)

Every refusal of the server carries a stable `reason` (see the error catalogue).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_status import rpc_status

from chatd.v1 import error_pb2


class ChatdError(Exception):
    """A call failed.

    `reason` is stable ("CHAT_NOT_FOUND"); empty if the network failed and not the server.
    `retry_seconds` is the wait that the server asked for, or None.
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
    """No such chat or message, or it belongs to another owner."""


class Conflict(ChatdError):
    """The chat's state forbids it."""


class PermissionDenied(ChatdError):
    """No key, a wrong key, or a key that may not do this."""


class NotImplementedByServer(ChatdError):
    """This server knows the request but does not implement it."""


class StreamLost(ChatdError):
    """The cursor is not in the log (any more): subscribe again without one."""


class TurnFailed(ChatdError):
    """A turn ended in an error, and the chat stays in ERROR until the next message, or `retry`.

    `kind` is the name of an ErrorKind ("AUTH", "RATE_LIMIT"), `retryable` whether the same message
    may succeed later, `error` the whole error of the server. `is_queued`: the message had no turn,
    because the turn before it failed (`turn_id` is that one); it stays queued, and has its turn
    after the next message is sent.
    """

    def __init__(
        self, error: error_pb2.ChatError, *, turn_id: str = "", is_queued: bool = False
    ) -> None:
        words = f"{error.message} ({error.detail})" if error.detail else error.message
        asked_to_wait = error.HasField("retry_after")
        super().__init__(
            f"an earlier turn failed, and the message is still queued: {words}"
            if is_queued
            else words,
            retry_seconds=error.retry_after.ToTimedelta().total_seconds()
            if asked_to_wait
            else None,
        )
        self.kind = error_pb2.ErrorKind.Name(error.kind).removeprefix("ERROR_KIND_")
        self.retryable = error.retryable
        self.error = error
        self.turn_id = turn_id
        self.is_queued = is_queued


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


_TOO_LARGE = re.compile(
    r"(?P<is_response>CLIENT: Received)?[^:]*message larger than max "
    r"\((?P<size>\d+) vs\. (?P<most>\d+)\)"
)
"""The text of grpc for a message above its limit, on either side."""


def from_rpc(error: grpc.aio.AioRpcError) -> ChatdError:
    """Return the exception that an RPC error means."""
    found = _BY_CODE.get(error.code(), ChatdError)
    message = error.details() or error.code().name
    status = rpc_status.from_call(cast("grpc.Call", error))
    if status is None:
        return _too_large(message) or found(message)
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


def _too_large(message: str) -> InvalidRequest | None:
    """Return the refusal of a message above grpc's own limit; None for another text."""
    said = _TOO_LARGE.search(message)
    if said is None:
        return None
    size, most = said["size"], said["most"]
    words = (
        f"the response has {size} bytes, and this client takes at most {most}: ask for less"
        if said["is_response"]
        else f"the request has {size} bytes, and the server takes at most {most}: send less at once"
    )
    return InvalidRequest(words, reason="MESSAGE_TOO_LARGE")


def no_server(address: str, how_long: str) -> Unavailable:
    return Unavailable(
        f"no server answers at {address} (tried {how_long}): start one with `chatd serve`, or give "
        "the address of one that runs"
    )


@contextmanager
def of_unicode() -> Iterator[None]:
    """Raise InvalidRequest for text with half of a surrogate pair, which no message can hold."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the text cannot be encoded as UTF-8: character {error.start} is "
            f"{error.object[error.start]!a}, half of a surrogate pair"
        ) from error


def may_try_again(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the same call may succeed later: the network failed, or the server said so.

    grpc uses RESOURCE_EXHAUSTED for three unrelated things; it is a reason to wait only with the
    server's RetryInfo.
    """
    known = from_rpc(error)
    if known.reason:
        return known.retry_seconds is not None
    return error.code() in _CUT_CODES
