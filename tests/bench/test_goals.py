"""Goals are data: the output, the stored rows and the docs come from one table."""

import re
from pathlib import Path

import msgspec
import pytest

from bench.__main__ import Groups, main
from bench.context import Context
from bench.result import Row, Sample, row
from bench.rows.goals import GOALS, READ, Goal, Measure, in_words, judged
from bench.rows.table import NAMES

DOCS = Path(__file__).parents[2] / "docs" / "performance.md"
_LINE = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \| (.+) \|$", re.MULTILINE)
OF_FLOOR = {
    Measure.P99_TO_FLOOR: "p99_ms",
    Measure.WALL_TO_FLOOR: "wall_ms",
    Measure.GROWTH_TO_FLOOR: "growth_us",
}


def _row(name: str, product: float, **others: float) -> Row:
    """Return a row; its other numbers have the same size."""
    values = {"product": product, **others}
    return row(
        name,
        "us",
        {side: Sample(it, dict.fromkeys(OF_FLOOR.values(), it)) for side, it in values.items()},
    )


def test_every_row_has_a_goal() -> None:
    """And no goal belongs to a row that no longer exists."""
    assert sorted(GOALS) == sorted(NAMES)
    assert all(GOALS.values())


def test_the_docs_have_the_goals_of_the_table() -> None:
    """In the same words, row by row."""
    _, _, section = DOCS.read_text(encoding="utf-8").partition("\n## Goals\n")
    section, _, _ = section.partition("\n## ")
    told = {
        name.strip("`"): words
        for names, words in _LINE.findall(section)
        for name in names.split(", ")
    }
    assert told == {name: in_words(name) for name in NAMES}


@pytest.mark.parametrize("measure", list(Measure))
def test_a_goal_is_met_up_to_its_bound(measure: Measure) -> None:
    """Each measure reads the number that it names; a goal without a value is not met."""
    others = dict.fromkeys(("floor", "durable", "naive"), 1.0)
    values = [READ[measure](_row("name", product, **others)) for product in (2.0, 3.0)]
    assert values == [2.0, 3.0]
    if measure is not Measure.MILLISECONDS:
        assert READ[measure](_row("name", 2.0)) is None


def test_growth_is_not_compared_when_the_floors_drowned_in_noise() -> None:
    """Divided by zero or a negative number, a ratio has no meaning."""
    for growth in (0.0, -1.0):
        samples = {
            "product": Sample(1, {"growth_us": 2}),
            "floor": Sample(1, {"growth_us": growth}),
        }
        assert READ[Measure.GROWTH_TO_FLOOR](row("name", "us", samples)) is None


def test_a_row_is_met_only_when_all_of_its_goals_are() -> None:
    """step_tool has one goal against the durable floor, and one against the naive stack."""
    at_once = judged(_row("step_tool", 2.0, durable=1.0, naive=8.0))
    assert (at_once.met, [it.met for it in at_once.goals]) == (True, [True, True])
    late = judged(_row("step_tool", 2.01, durable=1.0, naive=9.0))
    assert (late.met, [it.met for it in late.goals]) == (False, [False, True])


def test_a_goal_without_a_measurement_is_not_met() -> None:
    """The reason is next to it."""
    assert judged(Row(name="write_pg_16", unit="", why="no PostgreSQL")).met is False


def test_goals_read_as_sentences() -> None:
    """A limit is written as people write it."""
    assert str(Goal(Measure.TO_DURABLE, 2.0)) == "at most 2 of the durable floor"
    assert in_words("e2e_100x50") == (
        "at most 0.33 of the naive stack; p99 at most 1.5 of the floor's"
    )


async def _missed(_: Context) -> list[Row]:
    return [_row("step_tool", 3.0, durable=1.0, naive=30.0)]


async def _met(_: Context) -> list[Row]:
    return [_row("encode_10_200", 1.0, floor=1.0)]


async def _unavailable(_: Context) -> list[Row]:
    return [Row(name="write_pg_16", unit="", why="no PostgreSQL")]


async def _broken(_: Context) -> list[Row]:
    raise RuntimeError("the vendor died")


def test_a_missed_goal_ends_the_output_and_is_not_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bench measures; its reader judges."""
    groups: Groups = {
        ("encode_10_200",): _met,
        ("step_tool",): _missed,
        ("write_pg_16",): _unavailable,
    }
    code = main(["--rows", "encode_10_200,step_tool,write_pg_16"], groups, tmp_path)
    assert code == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Missed goals:",
        "  step_tool: 3; goal: at most 2 of the durable floor",
        "  write_pg_16: not measured: no PostgreSQL",
    ]


def test_the_file_has_the_goals_of_each_row(tmp_path: Path) -> None:
    """With the measured values, for readers of the JSON."""
    main(["--rows", "step_tool"], {("step_tool",): _missed}, tmp_path)
    rows = msgspec.json.decode((tmp_path / "latest.json").read_bytes(), type=list[Row])
    assert rows == [judged(_row("step_tool", 3.0, durable=1.0, naive=30.0))]
    assert [it.value for it in rows[0].goals] == [3.0, 0.1]


def test_a_run_that_meets_all_goals_reports_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty list would leave open whether any was missed."""
    assert main(["--rows", "encode_10_200"], {("encode_10_200",): _met}, tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "All goals met."


def test_a_measurement_that_breaks_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a defect of the bench or of the server, not a slow minute."""
    assert main(["--rows", "cold_start"], {("cold_start",): _broken}, tmp_path) == 1
    assert "cold_start: not measured: RuntimeError: the vendor died" in capsys.readouterr().out
