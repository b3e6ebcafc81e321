"""The goals of all rows, as data: the tables, the JSON and the list of misses use them.

docs/performance.md has the same goals in the same words; a test compares them.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from bench.result import Judged, Row


class Measure(StrEnum):
    """What a goal limits; the text has a place for the limit."""

    TO_FLOOR = "at most {} of the floor"
    TO_DURABLE = "at most {} of the durable floor"
    TO_NAIVE = "at most {} of the naive stack"
    P99_TO_FLOOR = "p99 at most {} of the floor's"
    WALL_TO_FLOOR = "wall time at most {} of the floor's"
    GROWTH_TO_FLOOR = "growth at most {} of the floor's"
    MILLISECONDS = "at most {} ms"


class Goal(msgspec.Struct, frozen=True):
    """A limit for one measure."""

    measure: Measure
    most: float

    def __str__(self) -> str:
        """Return the goal as text."""
        return self.measure.format(f"{self.most:g}")


_WRITE = (Goal(Measure.TO_FLOOR, 1.25), Goal(Measure.TO_NAIVE, 0.1))
_STEP = (Goal(Measure.TO_DURABLE, 2.0), Goal(Measure.TO_NAIVE, 0.25))
_GROWTH = Goal(Measure.GROWTH_TO_FLOOR, 1.5)
_LOOP = (Goal(Measure.MILLISECONDS, 20),)

GOALS: Mapping[str, tuple[Goal, ...]] = {
    "e2e_100x50": (Goal(Measure.TO_NAIVE, 0.33), Goal(Measure.P99_TO_FLOOR, 1.5)),
    "e2e_1000": (Goal(Measure.TO_FLOOR, 1.0), Goal(Measure.P99_TO_FLOOR, 1.5)),
    "e2e_1x100": (Goal(Measure.TO_FLOOR, 1.1),),
    "e2e_burst": (Goal(Measure.TO_NAIVE, 0.2),),
    "write_sqlite_1": _WRITE,
    "write_sqlite_64": _WRITE,
    "write_pg_16": _WRITE,
    "step_tool": _STEP,
    "step_10": (*_STEP, _GROWTH),
    "step_200": (*_STEP, _GROWTH),
    "turn_plain": (Goal(Measure.TO_DURABLE, 2.0),),
    "wake_to_first_token": (Goal(Measure.TO_DURABLE, 1.5),),
    "replay_10000": (Goal(Measure.TO_FLOOR, 1.5),),
    "unary_send": (Goal(Measure.TO_DURABLE, 1.8),),
    "encode_10_200": (Goal(Measure.GROWTH_TO_FLOOR, 1.2),),
    "compaction_2000": (Goal(Measure.TO_FLOOR, 1.1),),
    "cold_start": (Goal(Measure.TO_FLOOR, 1.5), Goal(Measure.WALL_TO_FLOOR, 1.5)),
    "idle_10000": (Goal(Measure.TO_FLOOR, 1.1),),
    "loop_longest": _LOOP,
    "loop_longest_pg": _LOOP,
}
"""The limits of each row; a row meets its goals if all of them hold."""


def _to_floor(name: str) -> Callable[[Row], float | None]:
    """Return how a number of `detail` is compared; None if the floor's value is lost in noise."""

    def read(row: Row) -> float | None:
        product, floor = (row.detail.get(side, {}).get(name) for side in ("product", "floor"))
        return None if product is None or not floor or floor < 0 else round(product / floor, 3)

    return read


READ: Mapping[Measure, Callable[[Row], float | None]] = {
    Measure.TO_FLOOR: lambda row: row.ratio_to_floor,
    Measure.TO_DURABLE: lambda row: row.ratio_to_durable,
    Measure.TO_NAIVE: lambda row: row.ratio_to_naive,
    Measure.P99_TO_FLOOR: _to_floor("p99_ms"),
    Measure.WALL_TO_FLOOR: _to_floor("wall_ms"),
    Measure.GROWTH_TO_FLOOR: _to_floor("growth_us"),
    Measure.MILLISECONDS: lambda row: row.product,
}


def judged(row: Row) -> Row:
    """Return the row with its goals. A goal without a value is not met."""
    found = [_judged(goal, READ[goal.measure](row)) for goal in GOALS[row.name]]
    return msgspec.structs.replace(row, goals=found, met=all(it.met for it in found))


def _judged(goal: Goal, value: float | None) -> Judged:
    return Judged(str(goal), value, value is not None and value <= goal.most)


def in_words(name: str) -> str:
    """Return the goals of a row as text."""
    return "; ".join(map(str, GOALS[name]))
