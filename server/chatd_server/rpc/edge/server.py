"""The gRPC server: its ports, its health, and how it leaves."""

import asyncio
from collections.abc import Sequence

from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Upkeep
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.health import Health
from chatd_server.rpc.edge.listen import Listener

HEALTH_POLL_SECONDS = 5.0
"""How often the database is asked whether it answers."""


class RpcServer:
    """Listens, answers, and leaves in order."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        health: Health,
        arrivals: Arrivals,
        store: Upkeep,
        clock: Clock,
    ) -> None:
        self._listeners = listeners
        self._health = health
        self._arrivals = arrivals
        self._store = store
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The public port, which is the first one; 0 before `start`."""
        return self._listeners[0].port

    async def start(self) -> None:
        """Listen on all ports. Raises PortInUse, with all ports free again."""
        try:
            for listener in self._listeners:
                await listener.start()
        except BaseException:
            await self.stop(0)
            raise
        self._health.set(serving=True)
        self._tasks = [
            asyncio.create_task(self._watch_health(), name="rpc.health"),
            asyncio.create_task(self._arrivals.sweep(), name="rpc.arrivals"),
        ]

    async def ended(self) -> None:
        """Wait until it is stopped; raises the exception of a port that fails."""
        await asyncio.gather(*(listener.ended() for listener in self._listeners))

    async def enter_drain(self) -> None:
        """Say NOT_SERVING, so that balancers send no new clients; still answer."""
        self._health.leave()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let open ones finish for this long, then cut them."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(listener.stop(grace_seconds) for listener in self._listeners))

    async def _watch_health(self) -> None:
        """Follow the database: a server without it cannot serve, and says so."""
        serving = True
        while True:
            await self._clock.sleep(HEALTH_POLL_SECONDS, "rpc.health")
            reachable = await self._store.is_reachable()
            if reachable != serving:
                serving = reachable
                self._health.set(serving=serving)
