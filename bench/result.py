"""One row of the table, and how it is computed from several runs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median

import msgspec

SIDES = ("product", "floor", "durable", "naive")


class Sample(msgspec.Struct, frozen=True):
    """The result of one run of one side: the number of the row, and further numbers."""

    value: float
    detail: dict[str, float] = {}
    #: The values, in the order of the rounds, if this is their median.
    values: tuple[float, ...] = ()


class Judged(msgspec.Struct, frozen=True):
    """One goal of a row, and the measured value."""

    goal: str
    value: float | None
    met: bool


class Case(msgspec.Struct, frozen=True):
    """One case of a row that is the worst of many cases."""

    name: str
    cpu_ms: float
    wall_ms: float
    #: The place that took so long.
    where: str


class Row(msgspec.Struct, frozen=True):
    """One row, as in `bench/results/latest.json`. `why` is the reason for a missing number;
    `is_failure` means that something went wrong. `rows.goals.judged` fills in `goals` and `met`.
    """

    name: str
    unit: str
    product: float | None = None
    floor: float | None = None
    durable: float | None = None
    naive: float | None = None
    ratio_to_floor: float | None = None
    ratio_to_durable: float | None = None
    ratio_to_naive: float | None = None
    goals: list[Judged] = []
    #: None: the row has no goal.
    met: bool | None = None
    why: str = ""
    is_failure: bool = False
    detail: dict[str, dict[str, float]] = {}
    #: For each side, the number of each round.
    rounds: dict[str, list[float]] = {}
    cases: list[Case] = []


Sides = Mapping[str, Callable[[], Awaitable[Sample]]]
"""How to take one sample of each side; sides that are left out stay empty."""


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
    values = tuple(sample.value for sample in samples)
    return Sample(
        value=median(values),
        detail={name: median(sample.detail[name] for sample in samples) for name in names},
        values=values,
    )


def row(name: str, unit: str, samples: Mapping[str, Sample]) -> Row:
    sides = [side for side in SIDES if side in samples]
    values = {side: samples[side].value for side in sides}
    return Row(
        name=name,
        unit=unit,
        product=_rounded(values.get("product")),
        floor=_rounded(values.get("floor")),
        durable=_rounded(values.get("durable")),
        naive=_rounded(values.get("naive")),
        ratio_to_floor=_ratio(values, "floor"),
        ratio_to_durable=_ratio(values, "durable"),
        ratio_to_naive=_ratio(values, "naive"),
        detail={
            side: {key: round(value, 3) for key, value in samples[side].detail.items()}
            for side in sides
        },
        rounds={
            side: [round(value, 3) for value in samples[side].values]
            for side in sides
            if samples[side].values
        },
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _ratio(values: Mapping[str, float], other: str) -> float | None:
    if "product" not in values or not values.get(other):
        return None
    return round(values["product"] / values[other], 3)
