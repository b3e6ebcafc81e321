"""How samples become a row, and when a goal is met."""

import msgspec

from bench.result import Limit, Row, Sample, alternate, row

KEYS = {
    "name",
    "unit",
    "product",
    "floor",
    "naive",
    "ratio_to_floor",
    "ratio_to_naive",
    "goal",
    "met",
}


def _row(limit: Limit, **values: float) -> Row:
    samples = {side: Sample(value) for side, value in values.items()}
    return row("name", "us", samples, lambda _: (limit,))


def test_a_row_has_every_key_also_when_nothing_was_measured() -> None:
    """Readers of the file never have to ask whether a key is there."""
    unmeasured = msgspec.to_builtins(Row(name="name", unit="us", why="no PostgreSQL"))
    assert unmeasured.keys() >= KEYS
    assert (unmeasured["product"], unmeasured["met"]) == (None, False)


def test_ratios_are_the_product_over_the_other() -> None:
    """Below one is better than the other."""
    found = _row(Limit("CPU", 1, 1), product=50, floor=40, naive=200)
    assert (found.ratio_to_floor, found.ratio_to_naive) == (1.25, 0.25)


def test_a_goal_is_met_only_by_a_number_within_its_limit() -> None:
    """What was not measured is not met."""
    assert _row(Limit("CPU", 1.3, 1.3), product=1).met
    assert not _row(Limit("CPU", 1.31, 1.3), product=1).met
    assert not _row(Limit("CPU", None, 1.3), product=1).met


async def test_sides_take_turns_and_the_median_counts() -> None:
    """A B A B A B, so that a busy minute of the machine hits all sides."""
    order: list[str] = []
    values = iter([3.0, 30.0, 1.0, 10.0, 2.0, 20.0])

    async def sample(side: str) -> Sample:
        order.append(side)
        return Sample(next(values))

    sides = {"product": lambda: sample("product"), "floor": lambda: sample("floor")}
    found = await alternate(sides, 3, lambda _: None)
    assert order == ["product", "floor"] * 3
    assert (found["product"].value, found["floor"].value) == (2.0, 20.0)
