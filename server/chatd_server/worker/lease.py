"""Heartbeats: one statement for all chats of this worker, and what follows from its result."""

from collections.abc import Sequence

from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.stop import StopCause
from chatd_server.domain.chat import Status
from chatd_server.domain.ids import MICROSECONDS, ChatId, Instant
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import spans
from chatd_server.worker.alarm import Alarm
from chatd_server.worker.runs import Run, Runs
from chatd_server.worker.settings import WorkerSettings


class Heart:
    """Keeps a worker's leases alive, and stops runs that must not continue."""

    def __init__(self, runs: Runs, settings: WorkerSettings, env: Env) -> None:
        self._runs = runs
        self._settings = settings
        self._env = env
        self._asked: set[ChatId] = set()
        self._alarm = Alarm(env.clock, "heartbeat")
        self._all_due_at: Instant = env.clock.now()

    def ask(self, chat_id: ChatId) -> None:
        """Check a held chat soon, because it may have changed."""
        self._asked.add(chat_id)
        self._alarm.ring()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        self._all_due_at = self._now() + self._microseconds(self._settings.heartbeat_seconds)
        while True:
            await self._alarm.wait((self._all_due_at - self._now()) / MICROSECONDS)
            if self._now() >= self._all_due_at:
                self._all_due_at = self._now() + self._microseconds(
                    self._settings.heartbeat_seconds
                )
                self._asked.clear()
                await self._beat(list(self._runs))
            else:
                asked, self._asked = self._asked, set()
                found = (self._runs.get(chat_id) for chat_id in asked)
                await self._beat([run for run in found if run is not None])

    async def _beat(self, held: Sequence[Run]) -> None:
        """Extend the leases of these runs, and of no run that was acquired meanwhile."""
        if not held:
            return
        beating_at = self._now()
        try:
            beats = await self._env.store.heartbeat(
                self._env.worker_id,
                [(run.chat_id, run.epoch) for run in held],
                self._settings.lease_seconds,
            )
        except DatabaseUnavailable as error:
            self._env.observer.note(spans.DatabaseFailed(doing="heartbeat", error=str(error)))
            self._stop_expired(held)
            return
        found = {(beat.chat_id, beat.epoch): beat.status for beat in beats}
        for run in held:
            status = found.get((run.chat_id, run.epoch))
            if status is None:
                run.stop.request(StopCause.LEASE_LOST)
                continue
            run.leased_until = beating_at + self._microseconds(self._settings.lease_seconds)
            if status is Status.INTERRUPTING:
                run.stop.request(StopCause.INTERRUPTED)

    def _stop_expired(self, held: Sequence[Run]) -> None:
        """Stop the runs whose leases have expired: other workers may run them now."""
        for run in held:
            if run.leased_until <= self._now():
                run.stop.request(StopCause.LEASE_LOST)

    def _now(self) -> Instant:
        return self._env.clock.now()

    def _microseconds(self, seconds: float) -> int:
        return round(seconds * MICROSECONDS)
