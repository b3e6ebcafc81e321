"""The order in which a request is processed, and what a client sees of a defect of the server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.refusal import Violation
from chatd_server.observe import spans
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import PUBLIC_SCOPES, Authenticator, Scope
from chatd_server.rpc.edge.dispatch import Dispatch
from chatd_server.rpc.edge.grpc_server import register
from chatd_server.rpc.edge.table import Answer, Call, Context, Rpc
from tests.kit.server import Served, refused

GET = "chatd.v1.ChatService/GetChat"
FOLLOW = "chatd.v1.ChatService/Subscribe"


@asynccontextmanager
async def answering(
    served: Served, rpc: Rpc, scopes: frozenset[Scope] = PUBLIC_SCOPES
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve a table of a test's own, on the parts of a real server."""
    dispatch = Dispatch(
        [rpc],
        None,
        served.app.database.store,
        Authenticator(served.app.database.keys, served.clock, scopes),
        Arrivals(served.clock),
        served.observer,
    )
    server = grpc.aio.server()
    register(server, dispatch.handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def broken(_backend: object, _call: Call, _request: Any) -> Message:
    """Answer with a defect."""
    raise ZeroDivisionError("words of a conversation")


async def broken_stream(_backend: object, _call: Call, _request: Any, context: Context) -> None:
    """Send one response, and then a defect."""
    await context.write(b"")
    raise ZeroDivisionError("words of a conversation")


async def test_a_defect_is_told_by_an_id_and_logged_under_it(served: Served) -> None:
    """INTERNAL carries an id; only the log has the cause."""
    rpc = Rpc(name=GET, request_type=pb.GetChatRequest, answer=Answer(unary=broken))
    async with answering(served, rpc) as channel:
        call: Any = channel.unary_unary(f"/{GET}")
        body = pb.GetChatRequest(chat_id="x").SerializeToString()
        refusal = await refused(lambda: call(body, metadata=served.auth))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.reason == "INTERNAL"
    assert "words" not in refusal.message
    (noted,) = served.observer.noted(spans.RpcFailed)
    assert noted.error_id == refusal.metadata["error_id"]
    assert "broken" in noted.trace


async def test_a_defect_in_a_stream_ends_it_with_an_error(served: Served) -> None:
    """Also after the first response: a stream that just ends would look like a cut."""
    answer = Answer(stream=broken_stream)
    rpc = Rpc(name=FOLLOW, request_type=pb.SubscribeRequest, is_streaming=True, answer=answer)
    async with answering(served, rpc) as channel:
        kind: Any = channel.unary_stream(f"/{FOLLOW}")
        call = kind(pb.SubscribeRequest(chat_id="x").SerializeToString(), metadata=served.auth)
        assert await call.read() == b""
        refusal = await refused(call.read)
    assert refusal.reason == "INTERNAL"


async def test_the_order_is_decode_authenticate_authorise_validate_call(served: Served) -> None:
    """A request that is wrong in every way is refused for the first check; each repair shows the
    next one.
    """
    seen: list[str] = []

    def check(_backend: object, _request: Any) -> Iterator[Violation]:
        seen.append("validate")
        if len(seen) < 3:
            yield Violation("title", "is wrong")

    async def called(_backend: object, _call: Call, _request: Any) -> Message:
        seen.append("call")
        return pb.GetChatResponse()

    answer = Answer(unary=called, check=check)
    rpc = Rpc(name=GET, request_type=pb.GetChatRequest, answer=answer)
    mine = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
    async with answering(served, rpc) as channel:
        call: Any = channel.unary_unary(f"/{GET}")

        async def reason(body: bytes, metadata: Any) -> str:
            return (await refused(lambda: call(body, metadata=metadata))).reason

        foreign = pb.GetChatRequest(chat_id="not mine").SerializeToString()
        right = pb.GetChatRequest(chat_id=mine).SerializeToString()
        assert await reason(b"\xff", ()) == "MALFORMED_REQUEST"
        assert await reason(foreign, ()) == "UNAUTHENTICATED"
        assert seen == []
        assert await reason(foreign, served.auth) == "CHAT_NOT_FOUND"
        assert await reason(right, served.auth) == "INVALID_FIELD"
        await call(right, metadata=served.auth)
    assert seen == ["validate", "validate", "validate", "call"]


async def test_a_key_without_the_scope_is_refused_before_its_request_is_checked(
    served: Served,
) -> None:
    """The words say which scope; an RPC that needs no scope needs no key either."""
    rpc = Rpc(name=GET, request_type=pb.GetChatRequest, answer=Answer(unary=broken))
    body = pb.GetChatRequest(chat_id="not mine").SerializeToString()
    async with answering(served, rpc, scopes=frozenset()) as channel:
        call: Any = channel.unary_unary(f"/{GET}")
        refusal = await refused(lambda: call(body, metadata=served.auth))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    assert refusal.reason == "PERMISSION_DENIED"
    assert "scope chats" in refusal.message
    open_to_all = Answer(unary=broken, scope=None)
    rpc = Rpc(name=GET, request_type=pb.GetChatRequest, answer=open_to_all)
    async with answering(served, rpc, scopes=frozenset()) as channel:
        call = channel.unary_unary(f"/{GET}")
        assert (await refused(lambda: call(body))).reason == "INTERNAL"


async def test_a_client_that_leaves_is_no_failure(served: Served) -> None:
    """A subscriber leaves by closing its stream; that is not logged as a defect."""
    chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
    call = served.chats.Subscribe(pb.SubscribeRequest(chat_id=chat_id), metadata=served.auth)
    await call.read()
    call.cancel()
    await served.call("ListChats", pb.ListChatsRequest())
    assert not served.observer.noted(spans.RpcFailed)
