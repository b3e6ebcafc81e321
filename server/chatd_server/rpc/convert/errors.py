"""Failures of models."""

from chatd.v1 import error_pb2
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.rpc.convert.times import duration

_ERROR_KIND = {it: error_pb2.ErrorKind.Value(f"ERROR_KIND_{it.name}") for it in ErrorKind}


def chat_error(it: ChatError) -> error_pb2.ChatError:
    return error_pb2.ChatError(
        kind=_ERROR_KIND[it.kind],
        message=it.message,
        detail=it.detail,
        provider=it.provider,
        retryable=it.retryable,
        http_status=it.http_status,
        retry_after=(None if it.retry_after_seconds is None else duration(it.retry_after_seconds)),
    )
