"""The store's time: PostgreSQL's clock, because the replicas' clocks differ."""

from collections.abc import Callable

from chatd_server.domain.ids import Instant
from chatd_server.ports.clock import Clock

NOW = "coalesce(:now::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
"""The store's time in SQL; its parameter is `StoreTime.given`."""


class StoreTime:
    """An estimate of PostgreSQL's clock that costs no statement. It dates the steps of a turn.

    A decision that depends on the time is made with a statement that reads the clock.
    """

    def __init__(self, clock: Clock, held: Callable[[], Instant] | None = None) -> None:
        """Take a clock that a test holds in the place of PostgreSQL's, or none."""
        self._clock = clock
        self._held = held
        self._skew = 0

    @property
    def given(self) -> Instant | None:
        """The parameter of NOW: None lets PostgreSQL look at its clock."""
        return None if self._held is None else self._held()

    def local(self) -> Instant:
        """Return this machine's time, to bracket a statement that reads PostgreSQL's."""
        return self._clock.now()

    def now(self) -> Instant:
        """Return the store's time."""
        return self._clock.now() + self._skew if self._held is None else self._held()

    def to_local(self, at: Instant) -> Instant:
        """Return when this machine's clock will show that moment."""
        return at - self._skew

    def saw(self, before: Instant, there: Instant, after: Instant) -> None:
        """Learn from a reading of PostgreSQL's clock between two of ours.

        The old estimate stays unless the reading proves it wrong: a slow answer proves little.
        """
        if self._held is None and not there - after <= self._skew <= there - before:
            self._skew = there - (before + after) // 2
