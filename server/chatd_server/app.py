"""The composition root: the only file that names concrete classes.

`build` opens the database and puts the parts together; `App` starts them and lets them leave in
order: NOT_SERVING, `stream_end(DRAINING)`, runs finished or handed back, then the server.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from chatd_server.agent.env import Env
from chatd_server.clock import RealClock
from chatd_server.config import BadConfig, Config, server_version
from chatd_server.domain.ids import WorkerId, new_uuid
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.hub.hub import Hub, HubSettings
from chatd_server.observe import LogObserver, NullObserver, Observer, Span
from chatd_server.ports import Clock, CommitListener, KeyStore, Store
from chatd_server.providers.registry import ModelRegistry
from chatd_server.providers.settings import ProviderSettings
from chatd_server.root_key import registered
from chatd_server.rpc.arrivals import Arrivals
from chatd_server.rpc.auth import Authenticator
from chatd_server.rpc.calls import ServerFacts, ServiceCalls
from chatd_server.rpc.dispatch import Dispatch, Rpc
from chatd_server.rpc.event_frames import EventFrames
from chatd_server.rpc.page_token import PURPOSE, PageTokens
from chatd_server.rpc.server import Listen, RpcServer
from chatd_server.rpc.subscribe import Subscribe
from chatd_server.rpc.table import answers, table
from chatd_server.service.chats import Chats
from chatd_server.service.checks import Checks
from chatd_server.service.chores import Chores
from chatd_server.service.events import Events
from chatd_server.service.keys import Keys, RootKey
from chatd_server.service.messages import Messages
from chatd_server.service.tool_results import ToolResults
from chatd_server.store.errors import NoDatabase
from chatd_server.store.migrate import (
    SCHEMA,
    migrate,
    migrate_sqlite,
    schema_version,
    sqlite_version,
)
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.link import AWAY, unavailable
from chatd_server.store.postgres.slots import Slots
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.sqlite.files import FileLock
from chatd_server.store.sqlite.keys import SqliteKeyStore
from chatd_server.store.sqlite.keys_beside import SqliteKeysBeside
from chatd_server.store.sqlite.store import SqliteStore
from chatd_server.store.wake import LocalWake, PostgresWake
from chatd_server.tools.registry import BuiltinTools
from chatd_server.worker.settings import WorkerSettings
from chatd_server.worker.worker import Worker

STREAMS_END_SECONDS = 2.0
"""How long open calls may finish after the drain; only streams of clients that do not read do."""


class Database(msgspec.Struct, frozen=True):
    """An open database and what hangs on it."""

    store: Store
    keys: KeyStore
    wake: LocalWake | PostgresWake
    listen: Callable[[CommitListener], None]
    close: Callable[[], Awaitable[None]]


class App:
    """A whole server."""

    def __init__(
        self,
        *,
        config: Config,
        database: Database,
        hub: Hub,
        worker: Worker,
        events: Events,
        chores: Chores,
        models: ModelRegistry,
        server: RpcServer,
        observer: Observer,
        root_key_is_revoked: bool,
    ) -> None:
        self.config = config
        self.root_key_is_revoked = root_key_is_revoked
        self.database = database
        self.hub = hub
        self.worker = worker
        self.server = server
        self._events = events
        self._chores = chores
        self._models = models
        self._observer = observer
        self._tasks: list[asyncio.Task[None]] = []
        self._work: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def address(self) -> str:
        """Where it listens: host:port."""
        return msgspec.structs.replace(_listen(self.config), port=self.server.port).address

    async def start(self) -> None:
        """Listen and work. Raises PortInUse, and then holds nothing."""
        self.database.listen(self.hub)
        self.database.listen(self.worker)
        self.database.wake.listen(self.hub.hinted)
        self.database.wake.listen_gaps(self.hub.hints_missed)
        try:
            await self.server.start()
        except BaseException:
            await self._close()
            raise
        self._work = asyncio.create_task(self.worker.run(), name="worker")
        parts = {"chores": self._chores.run(), "rpc.server": self.server.failed()}
        self._tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        self._observer.note(
            Span.SERVER_STARTED, address=self.address, database=self.config.shown_database
        )

    async def warm_up(self) -> None:
        """Load what the first turns would wait for; it serves meanwhile."""
        await asyncio.to_thread(self._models.warm_up)

    async def broken(self) -> None:
        """Wait for a part that cannot go on; raises what it died of."""
        assert self._work is not None
        await asyncio.wait([self._work, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (self._work, *self._tasks):
            if task.done() and not task.cancelled():
                task.result()

    async def drain(self) -> None:
        """Leave in order; returns when nothing runs any more and all streams were told."""
        self._observer.note(Span.SERVER_DRAINING, running=self.worker.running)
        await self.server.enter_drain()
        self.hub.drain()
        self._events.drain()
        self.worker.drain()
        if self._work is not None:
            await asyncio.wait([self._work])
        await self.stop(STREAMS_END_SECONDS)

    async def stop(self, grace_seconds: float = 0) -> None:
        """Stop at once, after `grace_seconds` for open calls. Chats in work are given back.

        Once stopped, it does nothing.
        """
        if self._is_closed:
            return
        await self.server.stop(grace_seconds)
        tasks = [*self._tasks, *([] if self._work is None else [self._work])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()
        self._observer.note(Span.SERVER_STOPPED)

    async def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._models.close()
        await self.database.close()


async def build(
    config: Config, *, clock: Clock | None = None, observer: Observer | None = None
) -> App:
    """Open the database and put a server together. Raises StoreError, DatabaseUnavailable."""
    clock = clock or RealClock()
    observer = observer or LogObserver()
    config.home_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    worker_id = WorkerId(new_uuid(clock.now()))
    database = await open_database(config, clock, observer)
    try:
        root = await registered(config.root_key_path, Keys(database.keys, clock), observer)
        if isinstance(database.store, PostgresStore):
            slots = Slots(config.home_path, config.shown_database)
            await database.store.take_place(slots, worker_id)
        tokens = PageTokens(await database.store.secret(PURPOSE))
        return _assembled(config, database, worker_id, tokens, root, clock, observer)
    except BaseException:
        await database.close()
        raise


def _assembled(
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
    models.get(config.default_model)
    tools = BuiltinTools(clock)
    hub = Hub(store, clock, EventFrames(), hub_settings(config), observer)
    env = Env(
        worker_id=worker_id,
        store=store,
        live=hub,
        models=models,
        tools=tools,
        clock=clock,
        observer=observer,
        default_model=config.default_model,
    )
    events = Events(store, hub, clock)
    checks = Checks(models, tools, config.default_model)
    calls = ServiceCalls(
        chats=Chats(store, clock, config.default_model),
        messages=Messages(store, clock),
        tool_results=ToolResults(store, clock),
        events=events,
        checks=checks,
        tokens=tokens,
        facts=_facts(config, worker_id),
        clock=clock,
    )
    authenticator = Authenticator(database.keys, clock)
    rpcs = _rpcs(calls, Subscribe(hub, authenticator, clock))
    arrivals = Arrivals(clock)
    dispatch = Dispatch(
        rpcs,
        store=store,
        authenticator=authenticator,
        arrivals=arrivals,
        model_examples=checks.model_examples,
        observer=observer,
    )
    return App(
        config=config,
        database=database,
        hub=hub,
        worker=Worker(worker_settings(config), database.wake, env),
        events=events,
        chores=Chores(store, clock, observer, config.event_retention_days),
        models=models,
        server=RpcServer(dispatch, authenticator, arrivals, store, clock, _listen(config)),
        observer=observer,
        root_key_is_revoked=root.is_revoked,
    )


def _facts(config: Config, worker_id: WorkerId) -> ServerFacts:
    return ServerFacts(
        server_version(), worker_id, config.default_model, config.stream_heartbeat_seconds
    )


def _rpcs(calls: ServiceCalls, subscribe: Subscribe) -> Sequence[Rpc]:
    rpcs = table(answers(calls, subscribe))
    calls.implemented = [rpc.name for rpc in rpcs if rpc.is_implemented]
    return rpcs


# --- databases -------------------------------------------------------------------------------


async def open_database(config: Config, clock: Clock, observer: Observer) -> Database:
    """Open what the URL names. Raises StoreError, DatabaseUnavailable."""
    if config.is_postgres:
        with _named(config):
            return await _postgres(config, clock, observer)
    wake = LocalWake()
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await SqliteStore.open(path, clock=clock, wake=wake, observer=observer)
    keys = SqliteKeyStore(store)
    return Database(store=store, keys=keys, wake=wake, listen=store.listen, close=store.close)


@contextmanager
def _named(config: Config) -> Iterator[None]:
    """Say which database it is that does not answer, and what to look at."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(
            f"the database {config.shown_database} cannot be used: {error}. Check that it is "
            "running, that this host can reach it, that the user has the privilege, and that "
            "database_url is right"
        ) from error
    except ValueError as error:
        raise BadConfig(
            f"database_url = {config.shown_database} cannot be used: {error}"
        ) from error


async def _postgres(config: Config, clock: Clock, observer: Observer) -> Database:
    if config.migrate:
        await migrate_database(config)
    wake = PostgresWake(config.database_url, clock, observer)
    store = await PostgresStore.open(
        config.database_url,
        clock=clock,
        wake=wake,
        observer=observer,
        writers=config.postgres_connections,
    )

    async def close() -> None:
        await wake.stop()
        await store.close()

    try:
        await wake.start()
    except BaseException:
        await store.close()
        raise
    keys = PostgresKeyStore(store)
    return Database(store=store, keys=keys, wake=wake, listen=store.listen, close=close)


async def open_keys(
    config: Config, clock: Clock, *, may_create: bool
) -> tuple[KeyStore, Callable[[], Awaitable[None]]]:
    """Open the keys alone, also while a server runs; return how to close them too.

    Raises NoDatabase for a file that is not there, unless it may be created.
    """
    if config.is_postgres:
        database = await open_database(config, clock, NullObserver())
        return database.keys, database.close
    if not may_create and not config.sqlite_path.exists():
        raise NoDatabase(str(config.sqlite_path))
    config.sqlite_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteKeysBeside(config.sqlite_path), _nothing_to_close


async def migrate_database(config: Config) -> tuple[str | None, str]:
    """Bring the database to this server's schema; return the one before and the one now.

    Raises SchemaTooNew, DatabaseInUse, DatabaseUnavailable.
    """
    if config.is_postgres:
        with _named(config):
            try:
                before = await schema_version(config.database_url)
                await migrate(config.database_url)
            except AWAY as error:
                raise unavailable(error) from error
        return before, SCHEMA
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        before = sqlite_version(path)
        migrate_sqlite(path)
    finally:
        lock.release()
    return before, SCHEMA


async def _nothing_to_close() -> None:
    """Do nothing: a file that is opened for each statement stays closed between them."""


# --- parts -----------------------------------------------------------------------------------


def provider_settings(config: Config) -> dict[str, ProviderSettings]:
    """Return what the providers are told."""
    key, url = config.anthropic_api_key, config.anthropic_base_url
    return {"anthropic": ProviderSettings(api_key=key, base_url=url)}


def worker_settings(config: Config) -> WorkerSettings:
    """Return what the worker is told."""
    return WorkerSettings(
        slots_max=config.runs_max,
        lease_seconds=config.lease_seconds,
        heartbeat_seconds=config.lease_heartbeat_seconds,
        poll_seconds=config.poll_seconds,
        drain_seconds=config.drain_seconds,
    )


def hub_settings(config: Config) -> HubSettings:
    """Return what the hub is told."""
    return HubSettings(
        heartbeat_seconds=config.stream_heartbeat_seconds,
        reads_at_heartbeat=config.is_postgres,  # SQLite has no other process to hear of late
    )


def _listen(config: Config) -> Listen:
    return Listen(host=config.host, port=config.port, reuse_port=config.reuse_port)
