"""Start, drain and stop of a server.

It leaves in this order: health says NOT_SERVING, streams end with DRAINING, runs finish or are
handed back, the ports close.
"""

import asyncio

import msgspec

from chatd_server.app.database import Database
from chatd_server.app.settings import listen
from chatd_server.config.settings import Config
from chatd_server.hub.feeds import Feeds
from chatd_server.hub.hub import Hub
from chatd_server.observe import Observer, spans
from chatd_server.providers.registry import ModelRegistry
from chatd_server.rpc.edge.server import RpcServer
from chatd_server.service.chores import Chores
from chatd_server.service.log import Log
from chatd_server.worker.worker import Worker

STREAMS_END_SECONDS = 2.0
"""How long open calls may take after the drain; only streams whose clients do not read need it."""


class App:
    """A whole server."""

    def __init__(
        self,
        *,
        config: Config,
        database: Database,
        hub: Hub,
        feeds: Feeds,
        worker: Worker,
        log: Log,
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
        self.feeds = feeds
        self.worker = worker
        self.server = server
        self._log = log
        self._chores = chores
        self._models = models
        self._observer = observer
        self._tasks: list[asyncio.Task[None]] = []
        self._work: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def address(self) -> str:
        """Where it listens: host:port."""
        return msgspec.structs.replace(listen(self.config), port=self.server.port).address

    async def start(self) -> None:
        """Listen and work. Raises PortInUse, with everything closed."""
        self.database.listen(self.hub)
        self.database.listen(self.feeds)
        self.database.listen(self.worker)
        for followed in (self.hub, self.feeds):
            self.database.wake.listen(followed.hinted)
            self.database.wake.listen_gaps(followed.hints_missed)
        try:
            await self.server.start()
        except BaseException:
            await self._close()
            raise
        self._work = asyncio.create_task(self.worker.run(), name="worker")
        parts = {
            "chores": self._chores.run(),
            "rpc.server": self.server.ended(),
            "wake": self.database.wake.failed(),
        }
        self._tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        self._observer.note(
            spans.ServerStarted(address=self.address, database=self.config.shown_database)
        )

    async def warm_up(self) -> None:
        """Load what the first turns would otherwise wait for; calls are served meanwhile."""
        await asyncio.to_thread(self._models.warm_up)

    async def broken(self) -> None:
        """Wait until a part of the server fails; raises its exception."""
        assert self._work is not None
        await asyncio.wait([self._work, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (self._work, *self._tasks):
            if task.done() and not task.cancelled():
                task.result()

    async def drain(self) -> None:
        """Leave in order; returns when nothing runs and all streams have ended."""
        self._observer.note(spans.ServerDraining(running=self.worker.running))
        await self.server.enter_drain()
        self.hub.drain()
        self.feeds.drain()
        self._log.drain()
        self.worker.drain()
        if self._work is not None:
            await asyncio.wait([self._work])
        await self.stop(STREAMS_END_SECONDS)

    async def stop(self, grace_seconds: float = 0) -> None:
        """Stop after `grace_seconds` for open calls. Running chats are handed back.

        A second call does nothing.
        """
        if self._is_closed:
            return
        await self.server.stop(grace_seconds)
        tasks = [*self._tasks, *([] if self._work is None else [self._work])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()
        self._observer.note(spans.ServerStopped())

    async def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._models.close()
        await self.database.close()
