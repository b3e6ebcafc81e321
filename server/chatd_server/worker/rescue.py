"""Chats that no worker would run otherwise: expired leases, deadlines, due retries."""

from collections.abc import Callable

from chatd_server.agent.turn.env import Env
from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import spans
from chatd_server.worker.settings import LOOK_AGAIN_SECONDS_MIN, WorkerSettings


class Rescuer:
    """Makes such chats available to all workers, and reports that there is work.

    It checks when the next one is due, and at least once per poll interval: other workers may hold
    shorter leases. So an expired lease is noticed within one poll interval.
    """

    def __init__(
        self, there_is_work: Callable[[], None], settings: WorkerSettings, env: Env
    ) -> None:
        self._there_is_work = there_is_work
        self._settings = settings
        self._env = env
        #: When the next chat is due, as of the last check.
        self._due_at: Instant | None = None

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._env.clock.sleep(await self._look(), "rescue")

    async def _look(self) -> float:
        """Release what is due now; return the seconds until the next check."""
        env, limit = self._env, self._settings.rescue_batch_max
        if self._due_at is not None and self._due_at <= env.clock.now():
            # It may have been a retry: that is work as soon as it is due, and is not found below.
            self._there_is_work()
        try:
            self._due_at = await env.store.next_due()
            seconds_left = self._seconds_left()
            if seconds_left > 0:
                return seconds_left
            rescued = await env.store.rescue(env.worker_id, limit)
            expired = await env.store.expire_actions(env.worker_id, limit)
        except DatabaseUnavailable as error:
            env.observer.note(spans.DatabaseFailed(doing="rescue", error=str(error)))
            return self._settings.poll_seconds
        if rescued or expired:
            env.observer.note(spans.ChatsRescued(rescued=rescued, expired=expired))
            self._there_is_work()
            return 0.0
        # Another transaction holds the row, or the database's clock is slightly behind ours: check
        # again soon, then less and less often.
        return min(max(-seconds_left, LOOK_AGAIN_SECONDS_MIN), self._settings.poll_seconds)

    def _seconds_left(self) -> float:
        """Return the time until a chat is due, at most until the next poll."""
        poll = self._settings.poll_seconds
        if self._due_at is None:
            return poll
        return min((self._due_at - self._env.clock.now()) / MICROSECONDS, poll)
