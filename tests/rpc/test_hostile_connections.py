"""Clients that open calls and then stop: each is bounded, and the others do not notice."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import (
    REQUEST_WAIT_SECONDS_MAX,
    WAITING_CALLS_MAX,
    WAITING_CALLS_PER_CONNECTION_MAX,
    WATCHES_MAX,
    WATCHES_PER_CONNECTION_MAX,
)
from chatd_server.rpc.calls import SERVICES
from chatd_server.rpc.edge.arrivals import LOOK_SECONDS
from tests.kit.http2 import RawConnection
from tests.kit.server import Served, refusal_of

LATE = REQUEST_WAIT_SECONDS_MAX + LOOK_SECONDS

AT_ONCE = 3_000

METHODS = [f"{service.full_name}/{it.name}" for service in SERVICES for it in service.methods] + [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


def opened(channel: grpc.aio.Channel, method: str, key: str = "") -> Any:
    """Open a call and send no request."""
    call: Any = channel.stream_stream(f"/{method}")
    return call(metadata=(("authorization", f"Bearer {key}"),) if key else ())


async def outcome(call: Any) -> Any:
    """Return how a call was refused."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("the call was not refused")


async def until(served: Served, fact: Callable[[], object]) -> None:
    """Wait until a fact holds in the server; check it after each answer to another client."""
    async with elsewhere(served) as channel:
        get_info: Any = channel.unary_unary("/chatd.v1.AdminService/GetServerInfo")
        while not fact():
            with suppress(grpc.aio.AioRpcError):  # a refusal of a full server is an answer, too
                await get_info(b"")


def elsewhere(served: Served) -> grpc.aio.Channel:
    """Return a channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(served.app.address, options)


async def waiting(served: Served, count: int) -> None:
    """Wait until the server has `count` calls whose request has not arrived."""
    await until(served, lambda: len(served.app.server._arrivals._waiting) >= count)


@pytest.mark.parametrize("path", [b"/\xff\xfe/x", b"/\xc3(", b"\x80", b"", b"/", b"/a/b/c"])
async def test_a_path_that_is_no_method_does_not_end_the_server(
    served: Served, path: bytes
) -> None:
    """Whatever its bytes: the call is refused, and streams of others go on."""
    created = await served.call("CreateChat", pb.CreateChatRequest())
    request = pb.SubscribeRequest(chat_id=created.chat.chat_id)
    stream = served.chats.Subscribe(request, metadata=served.auth)
    while (await stream.read()).event.WhichOneof("event") != "caught_up":
        pass
    hostile = await asyncio.to_thread(RawConnection, served.app.address)
    hostile.call(path, b"")
    unknown: Any = served.channel.unary_unary("/chatd.v1.ChatService/None")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unknown(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await served.call("GetChat", pb.GetChatRequest(chat_id=created.chat.chat_id))
    assert not stream.done()
    stream.cancel()
    hostile.leave()


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_whose_request_never_comes_is_ended(served: Served, method: str) -> None:
    """With a key or without: the message says what was missing."""
    calls = [opened(served.channel, method, key) for key in ("", served.key)]
    await waiting(served, 2)
    await served.clock.advance(LATE)
    for call in calls:
        refusal = await outcome(call)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "MALFORMED_REQUEST",
        )
        assert "no request came" in refusal.message
    assert served.app.server._arrivals._waiting == {}


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_ends_without_a_request_is_malformed(served: Served, method: str) -> None:
    """A client that closes its side at once gets a status."""
    call = opened(served.channel, method, served.key)
    await call.done_writing()
    refusal = await outcome(call)
    assert refusal.reason == "MALFORMED_REQUEST"
    assert "ended without a request" in refusal.message


async def test_a_request_that_comes_in_time_is_answered(served: Served) -> None:
    """However slowly."""
    call = opened(served.channel, "chatd.v1.ChatService/ListChats", served.key)
    await waiting(served, 1)
    await served.clock.advance(REQUEST_WAIT_SECONDS_MAX - LOOK_SECONDS)
    await call.write(b"")
    assert pb.ListChatsResponse.FromString(await call.read()) == pb.ListChatsResponse()


async def test_calls_without_a_request_are_bounded_per_connection(served: Served) -> None:
    """One too many is refused at once; those of another connection are not."""
    count = WAITING_CALLS_PER_CONNECTION_MAX
    calls = [opened(served.channel, METHODS[0], served.key) for _ in range(count)]
    await waiting(served, count)
    refusal = await served.refused("ListChats", pb.ListChatsRequest())
    assert (refusal.code, refusal.reason, refusal.details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
        ["QuotaFailure"],
    )
    async with elsewhere(served) as other:
        list_chats: Any = other.unary_unary("/chatd.v1.ChatService/ListChats")
        await list_chats(b"", metadata=served.auth)
    for call in calls:
        call.cancel()


async def test_health_watches_are_bounded_per_connection(served: Served) -> None:
    """They need no key. When one ends, another may begin."""
    channel: Any = served.channel
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watches = [
        stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(WATCHES_PER_CONNECTION_MAX)
    ]
    for watch in watches:
        await watch.read()
    refusal = await outcome(stub.Watch(health_pb2.HealthCheckRequest()))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
    )
    await stub.Check(health_pb2.HealthCheckRequest())
    for watch in watches:
        watch.cancel()
    await until(served, lambda: not served.app.server._health._watches)
    again = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await again.read()).status == health_pb2.HealthCheckResponse.SERVING
    again.cancel()


async def test_a_watcher_that_does_not_read_keeps_nobody_from_leaving(served: Served) -> None:
    """The status changes for the others, and the server drains."""
    hostile = await asyncio.to_thread(RawConnection, served.app.address, window=0)
    hostile.call(b"/grpc.health.v1.Health/Watch", b"")
    await until(served, lambda: served.app.server._health._watches)
    channel: Any = served.channel
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    draining = asyncio.create_task(served.app.drain())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    await draining
    hostile.leave()


async def test_reflection_without_a_key_is_refused_when_it_asks(served: Served) -> None:
    """Not before: grpc's own client fails by itself then."""
    method = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    call = opened(served.channel, method)
    await call.write(b"\x3a\x00")
    assert (await outcome(call)).reason == "UNAUTHENTICATED"
    broken: Any = served.channel.stream_stream(f"/{method}")(metadata=served.auth)
    await broken.write(b"\xff\xff")
    assert (await outcome(broken)).reason == "MALFORMED_REQUEST"


async def test_calls_that_are_made_at_once_are_all_answered(served: Served) -> None:
    """A client that does much at once is not hostile: grpc's own bound cancelled its calls."""
    get_info: Any = served.channel.unary_unary("/chatd.v1.AdminService/GetServerInfo")
    answers = await asyncio.gather(*(get_info(b"") for _ in range(AT_ONCE)))
    assert len(answers) == AT_ONCE


async def test_calls_without_a_request_are_bounded_per_server(served: Served) -> None:
    """Over any number of connections; a refusal does not affect the calls that already wait."""
    path = METHODS[0].encode()
    count = WAITING_CALLS_MAX // WAITING_CALLS_PER_CONNECTION_MAX + 1
    hostile = [await asyncio.to_thread(RawConnection, served.app.address) for _ in range(count)]
    for client in hostile:
        for _ in range(WAITING_CALLS_PER_CONNECTION_MAX):
            client.send(client.headers(b"/" + path)[1])
    arrivals = served.app.server._arrivals
    async with elsewhere(served) as other:
        get_info: Any = other.unary_unary("/chatd.v1.AdminService/GetServerInfo")
        refusal = None
        while refusal is None:
            try:
                await get_info(b"")
            except grpc.aio.AioRpcError as error:
                refusal = refusal_of(error)
    assert refusal.reason == "TOO_MANY_STREAMS"
    assert len(arrivals._waiting) == WAITING_CALLS_MAX
    for client in hostile:
        client.break_off()
    await until(served, lambda: not arrivals._waiting)
    await served.call("ListChats", pb.ListChatsRequest())


async def test_health_watches_are_bounded_per_server(served: Served) -> None:
    """Over any number of connections; Check is still answered."""
    count = WATCHES_MAX // WATCHES_PER_CONNECTION_MAX
    hostile = [await asyncio.to_thread(RawConnection, served.app.address) for _ in range(count)]
    for client in hostile:
        for _ in range(WATCHES_PER_CONNECTION_MAX):
            client.call(b"/grpc.health.v1.Health/Watch", b"")
    watches = served.app.server._health._watches
    await until(served, lambda: watches.total() == WATCHES_MAX)
    channel: Any = served.channel
    stub: Any = health_pb2_grpc.HealthStub(channel)
    refusal = await outcome(stub.Watch(health_pb2.HealthCheckRequest()))
    assert refusal.reason == "TOO_MANY_STREAMS"
    await stub.Check(health_pb2.HealthCheckRequest())
    for client in hostile:
        client.break_off()
    await until(served, lambda: not watches)
