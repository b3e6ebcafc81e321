"""Chats that nobody would touch otherwise: leases of dead workers, deadlines, due retries."""

from collections.abc import Callable

from chatd_server.agent.turn.env import Env
from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import Span
from chatd_server.worker.settings import LOOK_AGAIN_SECONDS_MIN, WorkerSettings


class Rescuer:
    """Gives such chats back to all workers, and says that there is work.

    It looks when the next of them is due, and as often as the worker polls, since leases shorter
    than ours may begin at any time: a lease that has expired is noticed within one poll.
    """

    def __init__(
        self, there_is_work: Callable[[], None], settings: WorkerSettings, env: Env
    ) -> None:
        self._there_is_work = there_is_work
        self._settings = settings
        self._env = env
        #: What the last look found to be next.
        self._due_at: Instant | None = None

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._env.clock.sleep(await self._look(), "rescue")

    async def _look(self) -> float:
        """Give back what is due now; return how many seconds to wait until the next look."""
        env, limit = self._env, self._settings.rescue_batch_max
        if self._due_at is not None and self._due_at <= env.clock.now():
            # It may have been a retry, which is work from now on and is not found below.
            self._there_is_work()
        try:
            self._due_at = await env.store.next_due()
            seconds_left = self._seconds_left()
            if seconds_left > 0:
                return seconds_left
            rescued = await env.store.rescue(env.worker_id, limit)
            expired = await env.store.expire_actions(env.worker_id, limit)
        except DatabaseUnavailable as error:
            env.observer.note(Span.DATABASE_FAILED, doing="rescue", error=str(error))
            return self._settings.poll_seconds
        if rescued or expired:
            env.observer.note(Span.CHATS_RESCUED, rescued=rescued, expired=expired)
            self._there_is_work()
            return 0.0
        # Somebody holds the row, or the database's clock is a little behind ours: soon again, and
        # less and less often.
        return min(max(-seconds_left, LOOK_AGAIN_SECONDS_MIN), self._settings.poll_seconds)

    def _seconds_left(self) -> float:
        """Return how long it is until something is due, at most until the next poll."""
        poll = self._settings.poll_seconds
        if self._due_at is None:
            return poll
        return min((self._due_at - self._env.clock.now()) / MICROSECONDS, poll)
