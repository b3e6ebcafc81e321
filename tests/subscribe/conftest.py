"""The edge of a server on both databases, over a real channel."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_service_pb2_grpc
from chatd_server.agent.compaction.settings import CompactionSettings
from chatd_server.agent.titles.settings import TitleSettings
from chatd_server.hub.feeds import Feeds
from chatd_server.hub.hub import Hub
from chatd_server.hub.settings import HubSettings
from chatd_server.observe import NullObserver
from chatd_server.ports.keys import KeyStore
from chatd_server.rpc.backend import Backend, ServerFacts
from chatd_server.rpc.calls import GROUPS, SERVICES
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import Authenticator
from chatd_server.rpc.edge.dispatch import Dispatch
from chatd_server.rpc.edge.health import Health
from chatd_server.rpc.edge.listen import Listen, Listener
from chatd_server.rpc.edge.paging import PageTokens
from chatd_server.rpc.edge.server import RpcServer
from chatd_server.rpc.edge.table import table
from chatd_server.rpc.streams.frames import EventFrames
from chatd_server.service.chats import Chats
from chatd_server.service.checks import Checks
from chatd_server.service.context import Contexts
from chatd_server.service.keys import Keys
from chatd_server.service.log import Log
from chatd_server.service.messages import Messages
from chatd_server.service.queue import Queue
from chatd_server.service.titles import Titles
from chatd_server.service.tools import ClientTools
from chatd_server.service.turns import Turns
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.migrate import migrate
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite.keys import SqliteKeyStore
from chatd_server.store.sqlite.store import SqliteStore
from chatd_server.tools.builtin.source import BuiltinTools
from tests.kit.clock import ManualClock
from tests.kit.script import MODEL, ScriptedModel
from tests.subscribe.scene import OWNER, Edge

OpenStore = Callable[[], AbstractAsyncContextManager[tuple[Any, KeyStore, LocalWake]]]
Serve = Callable[..., AbstractAsyncContextManager[Edge]]


@pytest.fixture
def clock() -> ManualClock:
    """Time, held by the test."""
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> OpenStore:
    """Open the database of this test, as one process does."""
    observer = NullObserver()
    if request.param == "sqlite":

        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Any, KeyStore, LocalWake]]:
            wake = LocalWake()
            store = await SqliteStore.open(
                tmp_path / "chatd.db", clock=clock, wake=wake, observer=observer
            )
            try:
                yield store, SqliteKeyStore(store), wake
            finally:
                await store.close()

        return opened
    url = request.getfixturevalue("postgres_url")
    await migrate(url)

    @asynccontextmanager
    async def connected() -> AsyncIterator[tuple[Any, KeyStore, LocalWake]]:
        wake = LocalWake()
        store = await PostgresStore.open(
            url, clock=clock, wake=wake, observer=observer, writers=2, held_time=clock.now
        )
        try:
            yield store, PostgresKeyStore(store), wake
        finally:
            await store.close()

    return connected


@pytest.fixture
def serve(open_store: OpenStore, clock: ManualClock) -> Serve:
    """Run one process on the database until the context is left."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Edge]:
        async with open_store() as (store, keys, wake):
            hub = Hub(store, clock, EventFrames(), HubSettings(**settings), NullObserver())
            feeds = Feeds(store, clock, HubSettings(**settings))
            store.listen(hub)
            store.listen(feeds)
            stop_hints = wake.listen(hub.hinted)

            def go_deaf() -> None:
                store._delivery._listeners.clear()
                stop_hints()

            authenticator = Authenticator(keys, clock)
            arrivals = Arrivals(clock)
            rpcs = table(SERVICES, GROUPS)
            backend = backend_of(store, hub, feeds, authenticator, clock)
            dispatch = Dispatch(rpcs, backend, store, authenticator, arrivals, NullObserver())
            public = Listener(Listen(host="127.0.0.1", port=0), [dispatch])
            server = RpcServer([public], Health((), arrivals), arrivals, store, clock)
            await server.start()
            registered = Keys(keys, clock)
            _, key = await registered.create(OWNER, "test")
            address = f"127.0.0.1:{server.port}"
            options = [("grpc.use_local_subchannel_pool", 1)]
            try:
                async with grpc.aio.insecure_channel(address, options) as channel:
                    stub = chat_service_pb2_grpc.ChatServiceStub(channel)
                    yield Edge(store, hub, feeds, clock, channel, stub, registered, key, go_deaf)
            finally:
                await server.stop(0)

    return serving


@pytest.fixture
async def edge(serve: Serve) -> AsyncIterator[Edge]:
    """One process."""
    async with serve() as served:
        yield served


def backend_of(
    store: Any, hub: Hub, feeds: Feeds, authenticator: Authenticator, clock: ManualClock
) -> Backend:
    """Return what the RPCs stand on."""
    return Backend(
        chats=Chats(store, clock, MODEL),
        messages=Messages(store, clock),
        contexts=Contexts(store, clock, ScriptedModel(), CompactionSettings(), MODEL),
        titles=Titles(store, clock, ScriptedModel(), TitleSettings(), MODEL),
        turns=Turns(store, clock),
        queue=Queue(store, clock),
        tools=ClientTools(store, clock),
        log=Log(store, hub, clock),
        checks=Checks(ScriptedModel(), BuiltinTools(clock).named, MODEL),
        streams=hub,
        watches=feeds,
        authenticator=authenticator,
        tokens=PageTokens(b"held"),
        facts=ServerFacts(
            version="0",
            instance_id="test",
            default_model=MODEL,
            heartbeat_seconds=15,
            implemented=(),
        ),
        clock=clock,
    )
