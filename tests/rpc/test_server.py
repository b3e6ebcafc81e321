"""The server as a whole: health, a database in trouble, a busy port, and how it leaves."""

import asyncio
import socket
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.app.compose import build
from chatd_server.config.load import load
from chatd_server.observe import NullObserver
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import Authenticator
from chatd_server.rpc.edge.health import Health as HealthService
from chatd_server.rpc.edge.listen import Listen, Listener, PortInUse
from chatd_server.rpc.edge.reflection import Reflection
from chatd_server.rpc.edge.server import HEALTH_POLL_SECONDS, RpcServer
from chatd_server.service.keys import Keys
from chatd_server.store.shared.errors import DatabaseInUse, SchemaOutdated
from tests.kit.clock import ManualClock
from tests.kit.server import Served, refusal_of, said, serving
from tests.store.proxy import Proxy

Health = health_pb2.HealthCheckResponse


async def health(served: Served, service: str = "") -> int:
    """Ask for the health of a service, without a key."""
    channel: Any = served.channel
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


@pytest.mark.parametrize("service", ["", "chatd.v1.ChatService", "chatd.v1.AdminService"])
async def test_health_needs_no_key(served: Served, service: str) -> None:
    """Balancers and probes have none; each service has its own answer."""
    assert await health(served, service) == Health.SERVING


async def test_health_follows_the_database(served: Served) -> None:
    """A server that cannot read its database says so to balancers, and each call says why."""
    store: Any = served.app.database.store
    await store.readers.close()
    refusal = await served.refused("ListChats", pb.ListChatsRequest())
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert refusal.reason == "DATABASE_UNAVAILABLE"
    assert refusal.details == ["RetryInfo"]
    await served.clock.advance(HEALTH_POLL_SECONDS)
    assert await health(served) == Health.NOT_SERVING


async def test_a_full_disk_refuses_writes_keeps_reads_and_goes_away(served: Served) -> None:
    """SQLite's own limit of pages plays the disk: nothing is acknowledged that is not there."""
    chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
    before = await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))
    store: Any = served.app.database.store
    connection: sqlite3.Connection = store._ledger.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    send = pb.SendMessageRequest(chat_id=chat_id, message=said("x" * 200_000))
    refusal = await served.refused("SendMessage", send)
    assert refusal.reason == "DATABASE_UNAVAILABLE"
    assert "full" in refusal.message
    assert await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id)) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    await served.call("SendMessage", send)
    await served.settled(chat_id)


async def test_a_port_in_use_is_said_and_everything_is_let_go(
    served: Served, tmp_path: Path
) -> None:
    """The second server does not start, and its database is free again."""
    flags = {"home": str(tmp_path / "other"), "port": served.app.server.port}
    config = load(flags, {}).config
    second = await build(config, clock=ManualClock(), observer=NullObserver())
    with pytest.raises(PortInUse, match=str(served.app.server.port)):
        await second.start()
    async with serving(tmp_path / "other"):
        pass


async def test_a_second_server_on_the_same_file_is_refused(served: Served) -> None:
    """Two writers of one file would contradict each other; the message says what to do."""
    config = load({"home": served.app.config.server.home, "port": 0}, {}).config
    with pytest.raises(DatabaseInUse, match="another server"):
        await build(config, clock=ManualClock(), observer=NullObserver())
    await served.call("ListChats", pb.ListChatsRequest())


async def test_leaving_is_told_before_connections_close(tmp_path: Path) -> None:
    """NOT_SERVING, then stream_end(DRAINING) to every stream, then the server stops."""
    async with serving(tmp_path) as served:
        chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
        stream = served.chats.Subscribe(pb.SubscribeRequest(chat_id=chat_id), metadata=served.auth)
        while (await stream.read()).event.WhichOneof("event") != "caught_up":
            pass
        channel: Any = served.channel
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == Health.SERVING
        draining = asyncio.create_task(served.app.drain())
        assert (await watch.read()).status == Health.NOT_SERVING
        end = (await stream.read()).event
        assert end.stream_end.reason == event_pb2.STREAM_END_REASON_DRAINING
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        watch.cancel()
        await draining


async def test_new_streams_are_refused_while_leaving(served: Served) -> None:
    """The client goes to another replica, or retries."""
    chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
    served.app.hub.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.subscribe(pb.SubscribeRequest(chat_id=chat_id))
    refusal = refusal_of(caught.value)
    assert refusal.reason == "DRAINING"
    assert refusal.details == ["RetryInfo"]


async def test_a_turn_that_outlives_the_drain_goes_on_in_the_next_server(tmp_path: Path) -> None:
    """The chat is given back as pending, not failed, and the next start works on it at once."""
    async with serving(tmp_path, drain_seconds=0) as served:
        message = said("!stall 5\n!say done")
        created = await served.call("CreateChat", pb.CreateChatRequest(message=message))
        chat_id = created.chat.chat_id
        await served.clock.sleeping("sandbox.stall")
        await served.app.drain()
    async with serving(tmp_path) as again:
        await again.clock.advance_to("sandbox.stall")
        await again.settled(chat_id)
        chat = (await again.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat
        assert chat.status == chat_pb2.CHAT_STATUS_WAITING
        assert chat.stop_reason == chat_pb2.STOP_REASON_END_TURN
        listed = await again.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
        assert [it.parts[0].text.text for it in listed.messages][1:] == ["done"]


async def test_keys_survive_a_restart(tmp_path: Path) -> None:
    """The root key is made once; the file and the database keep it."""
    async with serving(tmp_path) as served:
        key = served.key
    async with serving(tmp_path) as again:
        assert again.key == key
        await again.call("ListChats", pb.ListChatsRequest())


async def test_a_chat_on_postgres_is_answered_too(tmp_path: Path, postgres_url: str) -> None:
    """The same parts on the other store; an old schema is refused until it is migrated."""
    flags = {"home": str(tmp_path), "port": 0, "database_url": postgres_url}
    with pytest.raises(SchemaOutdated, match="chatd migrate"):
        await build(load(flags, {}).config, clock=ManualClock(), observer=NullObserver())
    async with serving(tmp_path, database_url=postgres_url, migrate=True) as served:
        created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
        await served.settled(created.chat.chat_id)
        request = pb.ListMessagesRequest(chat_id=created.chat.chat_id)
        assert len((await served.call("ListMessages", request)).messages) == 2


async def test_a_revoked_root_key_stays_revoked(tmp_path: Path) -> None:
    """A restart does not bring back a key that a person revoked on purpose."""
    async with serving(tmp_path) as served:
        keys = Keys(served.app.database.keys, served.clock)
        (root,) = await keys.page()
        assert await keys.revoke(root.id)
    async with serving(tmp_path) as again:
        refusal = await again.refused("ListChats", pb.ListChatsRequest())
        assert refusal.reason == "UNAUTHENTICATED"


async def test_a_database_that_goes_away_and_comes_back(tmp_path: Path, postgres_url: str) -> None:
    """While it is gone every call says so, writes and reads alike; then the same server goes on,
    and nothing of what was refused is there.
    """
    async with (
        Proxy(postgres_url) as proxy,
        serving(tmp_path, database_url=proxy.url, migrate=True) as served,
    ):
        chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
        before = await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))
        await proxy.cut()
        for method, request in (
            ("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said("lost"))),
            ("GetChat", pb.GetChatRequest(chat_id=chat_id)),
            ("CreateChat", pb.CreateChatRequest()),
        ):
            refusal = await served.refused(method, request)
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
            assert refusal.reason == "DATABASE_UNAVAILABLE"
            assert refusal.details == ["RetryInfo"]
        await proxy.mend()
        assert await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id)) == before
        await served.call("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said("x")))
        await served.settled(chat_id)


async def test_a_port_in_use_frees_the_ports_that_were_taken_before_it(served: Served) -> None:
    """The next server on these ports finds them free."""
    arrivals = Arrivals(served.clock)
    health_service = HealthService([], arrivals)
    ports = [
        Listener(Listen(host="127.0.0.1", port=port), [health_service])
        for port in (0, served.app.server.port)
    ]
    server = RpcServer(ports, health_service, arrivals, served.app.database.store, served.clock)
    with pytest.raises(PortInUse):
        await server.start()
    socket.create_server(("127.0.0.1", ports[0].port)).close()


async def test_each_port_answers_its_own_services(served: Served) -> None:
    """A service of another port is unknown here."""
    arrivals = Arrivals(served.clock)
    health_service = HealthService([], arrivals)
    reflection = Reflection([], Authenticator(served.app.database.keys, served.clock), arrivals)
    listen = Listen(host="127.0.0.1", port=0)
    ports = [Listener(listen, [health_service]), Listener(listen, [reflection])]
    server = RpcServer(ports, health_service, arrivals, served.app.database.store, served.clock)
    await server.start()
    check = health_pb2.HealthCheckRequest()
    codes = []
    for port in ports:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            call = stub.Check(check)
            codes.append(await call.code())
    await server.stop(0)
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED]
    assert server.port == ports[0].port
