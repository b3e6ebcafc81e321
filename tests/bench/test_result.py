"""How samples become a row."""

import msgspec

from bench.result import Row, Sample, alternate, row

KEYS = {
    "name",
    "unit",
    "product",
    "floor",
    "durable",
    "naive",
    "ratio_to_floor",
    "ratio_to_durable",
    "ratio_to_naive",
    "goals",
    "met",
}


def test_a_row_has_every_key_also_when_nothing_was_measured() -> None:
    """Readers of the file never have to check for a key."""
    unmeasured = msgspec.to_builtins(Row(name="name", unit="us", why="no PostgreSQL"))
    assert unmeasured.keys() >= KEYS
    assert (unmeasured["product"], unmeasured["met"]) == (None, None)


def test_ratios_are_the_product_over_the_other() -> None:
    """Below one means better than the other."""
    values = {"product": 50.0, "floor": 40.0, "durable": 50.0, "naive": 200.0}
    found = row("name", "us", {side: Sample(value) for side, value in values.items()})
    ratios = (found.ratio_to_floor, found.ratio_to_durable, found.ratio_to_naive)
    assert ratios == (1.25, 1.0, 0.25)


async def test_sides_take_turns_and_the_median_counts() -> None:
    """A B A B A B, so that a busy minute affects all sides; the row keeps all six."""
    order: list[str] = []
    values = iter([3.0, 30.0, 1.0, 10.0, 2.0, 20.0])

    async def sample(side: str) -> Sample:
        order.append(side)
        return Sample(next(values))

    sides = {"product": lambda: sample("product"), "floor": lambda: sample("floor")}
    found = await alternate(sides, 3, lambda _: None)
    assert order == ["product", "floor"] * 3
    assert (found["product"].value, found["floor"].value) == (2.0, 20.0)
    rounds = row("name", "us", found).rounds
    assert rounds == {"product": [3.0, 1.0, 2.0], "floor": [30.0, 10.0, 20.0]}
