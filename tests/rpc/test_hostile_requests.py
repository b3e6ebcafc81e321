"""Requests that no client library makes: each is answered or refused, and nothing breaks.

The seeds are fixed, so a failure repeats; `HOSTILE_REQUESTS=2000` makes the test as long as wanted.
"""

import asyncio
import logging
import os
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_health.v1 import health_pb2

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.observe import spans
from chatd_server.rpc.calls import SERVICES
from tests.kit.hostile import Hostile
from tests.kit.server import Served, bearer, said

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "60"))
"""Of each method."""

TOGETHER = 20

NEVER = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)

METHODS: list[Any] = [
    *(method for service in SERVICES for method in service.methods),
    *health_pb2.DESCRIPTOR.services_by_name["Health"].methods,
]

BY_THE_CLIENT = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)

PATIENCE_SECONDS = 0.5
"""Of calls that may wait: the test's clock stands still, so they would wait for ever."""


def metadata_of(hostile: Hostile, key: str) -> tuple[tuple[str, str | bytes], ...]:
    """Return the right key most of the time, else something odd."""
    odd: list[tuple[tuple[str, str | bytes], ...]] = [
        (),
        bearer("chatd_wrong"),
        (("authorization", "Bearer"),),
        (("authorization", key),),
        (("authorization", "Basic x"), *bearer(key)),
        (("authorization", "Bearer " + "x" * 2000),),
        (*bearer(key), ("x-bin", b"\xff\x00"), ("x", "y" * 500)),
    ]
    return bearer(key) if hostile.random.random() < 0.85 else hostile.random.choice(odd)


async def send(served: Served, hostile: Hostile, method: Any) -> grpc.StatusCode:
    """Make one call; return how it ended. Fails when an error does not say why."""
    body = hostile.request(method.input_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    limit = hostile.random.choice((PATIENCE_SECONDS, PATIENCE_SECONDS, PATIENCE_SECONDS, 0.0, -1.0))
    open_call: Any = served.channel.unary_stream(path)
    call = open_call(body, metadata=metadata_of(hostile, served.key), timeout=limit)
    try:
        # One answer is enough; a stream might go on for ever.
        await call.read()
    except grpc.aio.AioRpcError as error:
        is_ours = error.code() not in BY_THE_CLIENT and "chatd" in path
        if is_ours and not reason_of(error):
            raise AssertionError(f"{path} {body!r}: {error}") from error
        return error.code()
    if not call.done():
        call.cancel()
        return grpc.StatusCode.OK
    code: grpc.StatusCode = await call.code()
    return code


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of the one ErrorInfo."""
    packed: Any = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Unpack(info):
            break
    reason: str = info.reason
    return reason


@pytest.mark.parametrize("method", METHODS, ids=[it.full_name for it in METHODS])
async def test_no_request_breaks_the_server(
    served: Served, method: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """No defect, a reason in every refusal, and the next request is answered."""
    caplog.set_level(logging.WARNING)
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
    await served.settled(created.chat.chat_id)
    hostile = Hostile(METHODS.index(method), [created.chat.chat_id.encode()])
    for _ in range(REQUESTS // TOGETHER):
        codes = await asyncio.gather(*(send(served, hostile, method) for _ in range(TOGETHER)))
        assert not set(codes) & set(NEVER)
    assert not served.observer.noted(spans.RpcFailed)
    assert not caplog.records
    if method.name != "DeleteChat":
        await served.call("GetChat", pb.GetChatRequest(chat_id=created.chat.chat_id))
    again = await served.call("CreateChat", pb.CreateChatRequest(message=said("still there?")))
    assert again.message.position == 1
