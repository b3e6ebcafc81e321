"""What is deleted from time to time: records of requests, and events past their retention."""

from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.limits import REQUEST_ID_HOURS
from chatd_server.domain.refusal import Unavailable
from chatd_server.observe import Observer, spans
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Upkeep

CHORES_SECONDS = 600.0
"""Pause between sweeps. A sweep is two statements when there is nothing to do."""

HOUR_SECONDS = 3600
DAY_SECONDS = 86_400


class Chores:
    """Deletes what is too old."""

    def __init__(
        self, store: Upkeep, clock: Clock, observer: Observer, event_retention_days: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._observer = observer
        self._retention_days = event_retention_days

    async def run(self) -> None:
        """Sweep every CHORES_SECONDS, until cancelled. Without the database a sweep is skipped."""
        while True:
            try:
                await self.sweep()
            except Unavailable as error:
                self._observer.note(spans.DatabaseFailed(doing="chores", error=str(error)))
            await self._clock.sleep(CHORES_SECONDS, "chores")

    async def sweep(self) -> None:
        """Sweep once."""
        now = self._clock.now()
        await self._store.prune_commands(now - REQUEST_ID_HOURS * HOUR_SECONDS * MICROSECONDS)
        if self._retention_days > 0:
            kept = round(self._retention_days * DAY_SECONDS * MICROSECONDS)
            pruned = await self._store.prune_events(now - kept)
            if pruned:
                self._observer.note(spans.EventsPruned(count=pruned))
