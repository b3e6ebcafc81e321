"""What can go wrong, as exceptions: one class for each thing that a program would do about it.

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


class TurnFailed(ChatdError):
    """A turn ended in an error, and the chat stays in ERROR until the next message, or `retry`.

    `kind` is the name of an ErrorKind ("AUTH", "RATE_LIMIT"), `retryable` whether the same message
    may succeed later, `error` all that the server said. `is_queued`: the message never had its
    turn, because the one before it failed (`turn_id` is that one); it is still queued, and has its
    turn after the next message is sent.
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
"""What grpc says of a message above its limit, on either side."""


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
    """Return the refusal of a message above grpc's own limit; None for other words."""
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
    """Return the error of a server that nobody has reached; grpc's words stay its cause."""
    return Unavailable(
        f"no server answers at {address} (tried {how_long}): start one with `chatd serve`, or give "
        "the address of one that runs"
    )


@contextmanager
def of_unicode() -> Iterator[None]:
    """Turn the error of text that no message can hold, half of a surrogate pair, into ours."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the text has no UTF-8: its character {error.start} is {error.object[error.start]!a}, "
            "half of a surrogate pair"
        ) from error


def may_try_again(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the same call may succeed later: the network failed, or the server said so.

    RESOURCE_EXHAUSTED is grpc's word for three unrelated things; only with the server's own
    RetryInfo is it a reason to wait.
    """
    known = from_rpc(error)
    if known.reason:
        return known.retry_seconds is not None
    return error.code() in _CUT_CODES
