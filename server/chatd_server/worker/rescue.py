"""Chats that nobody would touch otherwise: leases of dead workers, deadlines, due retries."""

from collections.abc import Callable

from chatd_server.agent.env import Env
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import Span
from chatd_server.worker.alarm import Alarm
from chatd_server.worker.settings import WorkerSettings


class Rescuer:
    """Gives such chats back to all workers, and says that there is work."""

    def __init__(
        self, there_is_work: Callable[[], None], settings: WorkerSettings, env: Env
    ) -> None:
        self._there_is_work = there_is_work
        self._settings = settings
        self._env = env
        self._alarm = Alarm(env.clock, "rescue")

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._alarm.wait(await self._rescue())

    async def _rescue(self) -> float:
        """Give back what is due now; return how many seconds to wait until the next look."""
        settings, env = self._settings, self._env
        try:
            rescued = await env.store.rescue(env.worker_id, settings.rescue_batch_max)
            expired = await env.store.expire_actions(env.worker_id, settings.rescue_batch_max)
            due_at = await env.store.next_due()
        except DatabaseUnavailable as error:
            env.observer.note(Span.DATABASE_FAILED, doing="rescue", error=str(error))
            return settings.rescue_seconds
        if rescued or expired:
            env.observer.note(Span.CHATS_RESCUED, rescued=rescued, expired=expired)
        now = env.clock.now()
        if rescued or expired or (due_at is not None and due_at <= now):
            self._there_is_work()
        if settings.rescue_batch_max in {rescued, expired}:
            return 0.0
        if due_at is None or due_at <= now:
            return settings.rescue_seconds
        return min((due_at - now) / MICROSECONDS, settings.rescue_seconds)
