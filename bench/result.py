"""One row of the table, and how its numbers come together from several runs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median

import msgspec

SIDES = ("product", "floor", "naive")


class Sample(msgspec.Struct, frozen=True):
    """What one run of one side gave: the number of the row, and numbers beside it."""

    value: float
    detail: dict[str, float] = {}


class Limit(msgspec.Struct, frozen=True):
    """One condition of a goal."""

    what: str
    value: float | None
    most: float

    @property
    def is_met(self) -> bool:
        """Whether it was measured and holds."""
        return self.value is not None and self.value <= self.most

    def __str__(self) -> str:
        """Return the condition in words."""
        return f"{self.what} <= {self.most:g}"


class Case(msgspec.Struct, frozen=True):
    """One case of a row that is the worst of many."""

    name: str
    cpu_ms: float
    wall_ms: float
    #: What took so long.
    where: str


class Row(msgspec.Struct, frozen=True):
    """One row, as `bench/results/latest.json` has it. `why` says why a number is missing."""

    name: str
    unit: str
    product: float | None = None
    floor: float | None = None
    naive: float | None = None
    ratio_to_floor: float | None = None
    ratio_to_naive: float | None = None
    goal: str | None = None
    met: bool = False
    why: str = ""
    detail: dict[str, dict[str, float]] = {}
    cases: list[Case] = []


Sides = Mapping[str, Callable[[], Awaitable[Sample]]]
"""How to take one sample of each side; a side that is left out stays empty."""


async def alternate(
    sides: Sides, rounds: int, progress: Callable[[str], None]
) -> dict[str, Sample]:
    """Take samples A B C A B C ..., and return the median of each side."""
    taken: dict[str, list[Sample]] = {side: [] for side in sides}
    for number in range(1, rounds + 1):
        for side, take in sides.items():
            progress(f"{side} {number}/{rounds}")
            taken[side].append(await take())
    return {side: _median(samples) for side, samples in taken.items()}


def _median(samples: Sequence[Sample]) -> Sample:
    names = samples[0].detail
    return Sample(
        value=median(sample.value for sample in samples),
        detail={name: median(sample.detail[name] for sample in samples) for name in names},
    )


def row(
    name: str,
    unit: str,
    samples: Mapping[str, Sample],
    limits: Callable[["Row"], Sequence[Limit]],
    *,
    why: str = "",
) -> Row:
    """Return the row of these samples; `limits` sees it without its goal."""
    values = {side: samples[side].value for side in SIDES if side in samples}
    bare = Row(
        name=name,
        unit=unit,
        product=_rounded(values.get("product")),
        floor=_rounded(values.get("floor")),
        naive=_rounded(values.get("naive")),
        ratio_to_floor=_ratio(values, "floor"),
        ratio_to_naive=_ratio(values, "naive"),
        why=why,
        detail={
            side: {key: round(value, 3) for key, value in samples[side].detail.items()}
            for side in values
        },
    )
    goal = limits(bare)
    return msgspec.structs.replace(
        bare,
        goal=" and ".join(map(str, goal)) or None,
        met=bool(goal) and all(limit.is_met for limit in goal),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _ratio(values: Mapping[str, float], other: str) -> float | None:
    if "product" not in values or not values.get(other):
        return None
    return round(values["product"] / values[other], 3)


def growth_ratio(grown: Mapping[str, float]) -> float | None:
    """Return the product's growth over the floor's; None when the floor's drowned in noise."""
    return round(grown["product"] / grown["floor"], 3) if grown["floor"] > 0 else None
