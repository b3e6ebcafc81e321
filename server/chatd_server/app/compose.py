"""The composition root: the only file that names concrete classes."""

from collections.abc import Sequence

from chatd_server.agent.turn.env import Env
from chatd_server.app.database import Database
from chatd_server.app.databases import open_database
from chatd_server.app.root_key import registered
from chatd_server.app.server import App
from chatd_server.app.settings import (
    compaction_settings,
    hub_settings,
    listen,
    provider_settings,
    server_facts,
    title_settings,
    worker_settings,
)
from chatd_server.clock import RealClock
from chatd_server.config.settings import Config
from chatd_server.domain.ids import WorkerId, new_uuid
from chatd_server.hub.feeds import Feeds
from chatd_server.hub.hub import Hub
from chatd_server.observe import Observer
from chatd_server.observe.log import LogObserver
from chatd_server.ports.clock import Clock
from chatd_server.providers.registry import ModelRegistry
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.calls import GROUPS, SERVICES
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import Authenticator
from chatd_server.rpc.edge.dispatch import Dispatch
from chatd_server.rpc.edge.health import Health
from chatd_server.rpc.edge.listen import Listener
from chatd_server.rpc.edge.paging import PURPOSE, PageTokens
from chatd_server.rpc.edge.reflection import Reflection
from chatd_server.rpc.edge.server import RpcServer
from chatd_server.rpc.edge.table import Rpc, implemented, service_names, table
from chatd_server.rpc.streams.frames import EventFrames
from chatd_server.service.chats import Chats
from chatd_server.service.checks import Checks
from chatd_server.service.chores import Chores
from chatd_server.service.context import Contexts
from chatd_server.service.keys import Keys, RootKey
from chatd_server.service.log import Log
from chatd_server.service.messages import Messages
from chatd_server.service.queue import Queue
from chatd_server.service.titles import Titles
from chatd_server.service.tools import ClientTools
from chatd_server.service.turns import Turns
from chatd_server.tools.builtin.source import BuiltinTools
from chatd_server.tools.registry import tool_sources
from chatd_server.worker.worker import Worker


async def build(
    config: Config, *, clock: Clock | None = None, observer: Observer | None = None
) -> App:
    """Open the database and put a server together. Raises StoreError, DatabaseUnavailable."""
    clock = clock or RealClock()
    observer = observer or LogObserver()
    config.home_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    worker_id = WorkerId(new_uuid(clock.now()))
    database = await open_database(config, worker_id, clock, observer)
    try:
        root = await registered(config.root_key_path, Keys(database.keys, clock), observer)
        tokens = PageTokens(await database.store.secret(PURPOSE))
        return _app(config, database, worker_id, tokens, root, clock, observer)
    except BaseException:
        await database.close()
        raise


def _app(
    config: Config,
    database: Database,
    worker_id: WorkerId,
    tokens: PageTokens,
    root: RootKey,
    clock: Clock,
    observer: Observer,
) -> App:
    store = database.store
    models = ModelRegistry(provider_settings(config), clock)
    compaction, titles = compaction_settings(config), title_settings(config)
    for name in filter(None, (config.worker.default_model, compaction.model, titles.model)):
        models.get(name)
    contexts = Contexts(store, clock, models, compaction, config.worker.default_model)
    hub = Hub(store, clock, EventFrames(contexts.level), hub_settings(config), observer)
    feeds = Feeds(store, clock, hub_settings(config))
    env = Env(
        worker_id=worker_id,
        store=store,
        live=hub,
        models=models,
        tool_sources=tool_sources(clock),
        clock=clock,
        observer=observer,
        default_model=config.worker.default_model,
        compaction=compaction,
    )
    rpcs = table(SERVICES, GROUPS)
    backend = Backend(
        chats=Chats(store, clock, config.worker.default_model),
        messages=Messages(store, clock),
        contexts=contexts,
        titles=Titles(store, clock, models, titles, config.worker.default_model),
        turns=Turns(store, clock),
        queue=Queue(store, clock),
        tools=ClientTools(store, clock),
        log=Log(store, hub, clock),
        checks=Checks(models, BuiltinTools(clock).named, config.worker.default_model),
        streams=hub,
        watches=feeds,
        authenticator=Authenticator(database.keys, clock),
        tokens=tokens,
        facts=server_facts(config, worker_id, implemented(rpcs)),
        clock=clock,
    )
    return App(
        config=config,
        database=database,
        hub=hub,
        feeds=feeds,
        worker=Worker(worker_settings(config), database.wake, env),
        log=backend.log,
        chores=Chores(store, clock, observer, config.streams.event_retention_days),
        models=models,
        server=_server(config, database, rpcs, backend, observer),
        observer=observer,
        root_key_is_revoked=root.is_revoked,
    )


def _server(
    config: Config, database: Database, rpcs: Sequence[Rpc], backend: Backend, observer: Observer
) -> RpcServer:
    clock, authenticator = backend.clock, backend.authenticator
    arrivals = Arrivals(clock)
    dispatch = Dispatch(rpcs, backend, database.store, authenticator, arrivals, observer)
    health = Health(service_names(rpcs), arrivals)
    reflection = Reflection([dispatch, health], authenticator, arrivals)
    public = Listener(listen(config), [dispatch, health, reflection])
    return RpcServer([public], health, arrivals, database.store, clock)
