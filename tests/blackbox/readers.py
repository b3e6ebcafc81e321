"""Subscribers with different habits: steady, cut repeatedly, slow, late, without pieces."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chatd.v1 import chat_service_pb2
from tests.blackbox.calls import Caller
from tests.blackbox.follower import Follower, Story, Then
from tests.blackbox.rules import Known
from tests.blackbox.waits import pause

STORED_MAX = 8
"""Cursors that a reader keeps, to go back to one of them."""
PAUSE_SECONDS = 2.0
LATE_SECONDS = 3.0


@dataclass(frozen=True)
class Habit:
    """How often, per response, a reader does something."""

    name: str
    cuts: float = 0.0
    stores: float = 0.0
    pauses: float = 0.0
    include_deltas: bool | None = None
    late: bool = False


HABITS = (
    Habit("a steady reader"),
    Habit("a reader that is cut", cuts=0.05),
    Habit("a reader that goes back", cuts=0.04, stores=0.1),
    Habit("a slow reader", pauses=0.05),
    Habit("a reader without pieces", cuts=0.02, include_deltas=False),
    Habit("a late reader", late=True, include_deltas=True),
)


@dataclass
class Reader(Follower):
    """A follower with a habit; it leaves when the chat is finally at rest."""

    habit: Habit = HABITS[0]
    rng: random.Random = field(default_factory=random.Random)
    counted: Counter[str] = field(default_factory=Counter)
    stored: list[Known] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.include_deltas = self.habit.include_deltas
        self.pace = self._live_by_its_habit

    async def follow(self) -> None:
        """Follow, not always from the beginning."""
        if self.habit.late:
            await pause(self.rng.uniform(0, LATE_SECONDS))
        await super().follow()

    async def _live_by_its_habit(self, response: chat_service_pb2.SubscribeResponse) -> Then:
        cursor = response.cursor
        final = self.story.final
        if final is not None and cursor.sequence >= final and not cursor.snapshot_unfinished:
            return Then.LEAVE
        if self.rng.random() < self.habit.pauses:
            await pause(self.rng.uniform(0, PAUSE_SECONDS))
        if self.rng.random() < self.habit.stores and len(self.stored) < STORED_MAX:
            self.stored.append(self.known.copy())
        if self.rng.random() < self.habit.cuts:
            self.counted["cuts"] += 1
            return Then.RESUME
        return Then.READ

    def choose_place(self) -> None:
        """Sometimes resume from an older cursor, or from none; also after kills."""
        if self.stored and self.rng.random() < 0.5:
            self.known = self.rng.choice(self.stored).copy()
        elif self.habit.stores and self.rng.random() < 0.2:
            self.known = Known()


def readers(
    story: Story, choose: Callable[[], Caller], rng: random.Random, counted: Counter[str]
) -> list[Reader]:
    """Return one reader of each habit."""
    return [
        Reader(
            name=habit.name,
            story=story,
            choose=choose,
            habit=habit,
            rng=random.Random(rng.random()),
            counted=counted,
        )
        for habit in HABITS
    ]
