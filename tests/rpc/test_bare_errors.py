"""Errors without ErrorInfo: those that grpc gives by itself. docs/errors.md lists them."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, refused

HEADER_BYTES_PASS = 7 * 1024
"""Below grpc's soft limit of 8 KiB for all metadata of a call."""

HEADER_BYTES_REFUSED = 20 * 1024
"""Above its hard limit of 16 KiB; in between it refuses some calls, more the nearer they are."""


async def call(served: Served, case: str) -> object:
    """Make a call that grpc refuses."""
    method, body, metadata = "/chatd.v1.ChatService/ListChats", b"", served.auth
    if case == "unknown method":
        method = "/chatd.v1.ChatService/NoSuchRpc"
    elif case == "unknown service":
        method = "/chatd.v9.ChatService/ListChats"
    elif case == "large request":
        body = b"x" * (5 * 1024 * 1024)
    elif case == "large metadata":
        metadata = (*metadata, ("x-note", "x" * HEADER_BYTES_REFUSED))
    elif case == "unknown service of health":
        method = "/grpc.health.v1.Health/Check"
        body = health_pb2.HealthCheckRequest(service="x.Y").SerializeToString()
    made: Any = served.channel.unary_unary(method)
    return await made(body, metadata=metadata)


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("unknown method", grpc.StatusCode.UNIMPLEMENTED),
        ("unknown service", grpc.StatusCode.UNIMPLEMENTED),
        ("large request", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("large metadata", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("unknown service of health", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_grpc_answers_by_itself_has_no_error_info(
    served: Served, case: str, code: grpc.StatusCode
) -> None:
    """A client must not expect details there."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(served, case)
    assert caught.value.code() is code
    assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata() or ())
    await served.call("ListChats", pb.ListChatsRequest())


async def test_metadata_up_to_eight_kib_reach_chatd(served: Served) -> None:
    """Then the answer is chatd's."""
    metadata = (("x-note", "x" * HEADER_BYTES_PASS),)
    await served.chats.ListChats(pb.ListChatsRequest(), metadata=(*served.auth, *metadata))
    refusal = await refused(
        lambda: served.chats.ListChats(pb.ListChatsRequest(), metadata=metadata)
    )
    assert refusal.reason == "UNAUTHENTICATED"
