"""`python -m bench`: measures, prints a table and the missed goals, and writes
bench/results/latest.json.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
from rich.console import Console
from rich.table import Table

from bench.context import Context, Measure
from bench.result import Row
from bench.rows.goals import in_words, judged
from bench.rows.table import GROUPS, NAMES

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
TABLE_WIDTH = 180
Groups: TypeAlias = Mapping[tuple[str, ...], Measure]


async def measured(
    names: Sequence[str],
    groups: Groups,
    *,
    rounds: int,
    quick: bool,
    results: Path,
    console: Console,
) -> list[Row]:
    """Measure these rows; a row that cannot be measured has a reason instead of numbers."""
    rows: dict[str, Row] = {}
    for group, measure in groups.items():
        wanted = [name for name in group if name in names]
        if not wanted:
            continue
        shown = " ".join(wanted)
        # On the same disk as the checkout: on a RAM disk, commits would cost nothing.
        with (
            tempfile.TemporaryDirectory(dir=results, prefix="run-") as folder,
            console.status(shown) as status,
        ):
            context = Context(
                folder=Path(folder),
                rounds=rounds,
                quick=quick,
                progress=lambda text: status.update(f"{shown}: {text}"),  # noqa: B023  called within the iteration
            )
            try:
                found = await measure(context)
            except Exception as error:  # noqa: BLE001  a failed row must not lose the others
                why = _words(error)
                found = [Row(name=name, unit="", why=why, is_failure=True) for name in wanted]
        rows |= {row.name: judged(row) for row in found}
        # After each group, so that an aborted run keeps its results.
        write(list(rows.values()), results)
        for name in wanted:
            console.print(f"  {name}: {_line(rows[name])}", highlight=False)
    return [rows[name] for name in names]


def write(rows: Sequence[Row], results: Path) -> str:
    """Write the rows to latest.json; return the text."""
    encoded = msgspec.json.format(msgspec.json.encode(rows)).decode()
    (results / "latest.json").write_text(encoded + "\n", encoding="utf-8")
    return encoded


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().strip(":")


def _line(row: Row) -> str:
    if row.product is None:
        return f"not measured: {row.why}"
    sides = {"product": row.product, "floor": row.floor, "durable": row.durable}
    values = [f"{side} {_number(value)}" for side, value in sides.items() if value is not None]
    return ", ".join([*values, row.unit])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> Table:
    drawn = Table(title="chatd: product, floors and naive stack in one run")
    sides = ("product", "floor", "durable", "naive", "/ floor", "/ durable", "/ naive")
    for name in ("row", *sides, "p99 ms", "floor's"):
        drawn.add_column(name, justify="left" if name == "row" else "right", no_wrap=True)
    drawn.add_column("unit")
    drawn.add_column("goal")
    drawn.add_column("met")
    for row in rows:
        values = (row.product, row.floor, row.durable, row.naive)
        ratios = (row.ratio_to_floor, row.ratio_to_durable, row.ratio_to_naive)
        late = (row.detail.get(side, {}).get("p99_ms") for side in ("product", "floor"))
        drawn.add_row(
            row.name,
            *(_number(value) for value in (*values, *ratios, *late)),
            row.unit,
            row.why or in_words(row.name),
            _MET[row.met],
        )
    return drawn


_MET = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}


def misses(rows: Sequence[Row]) -> list[str]:
    """Return a line for each missed goal and for each row that was not measured."""
    lines = []
    for row in rows:
        if row.product is None:
            lines.append(f"{row.name}: not measured: {row.why}")
            continue
        lines += [
            f"{row.name}: {_number(it.value)}; goal: {it.goal}" for it in row.goals if not it.met
        ]
    return lines


def tell(rows: Sequence[Row], console: Console) -> None:
    """Print the tables and then the missed goals."""
    console.print(table(rows))
    for row in rows:
        if row.cases:
            console.print(table_of_cases(row))
    tell_misses(rows, console)


def tell_misses(rows: Sequence[Row], console: Console) -> None:
    """Print the missed goals, one per line."""
    lines = misses(rows)
    console.print("Missed goals:" if lines else "All goals met.")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def table_of_cases(row: Row) -> Table:
    drawn = Table(title=f"{row.name}: longest callback of the event loop in each case")
    for name in ("case", "CPU ms", "wall ms"):
        drawn.add_column(name, justify="left" if name == "case" else "right", no_wrap=True)
    drawn.add_column("which, and in how many of its samples")
    for case in row.cases:
        drawn.add_row(case.name, f"{case.cpu_ms:.1f}", f"{case.wall_ms:.1f}", case.where)
    return drawn


def _names(text: str) -> list[str]:
    names = text.split(",") if text else list(NAMES)
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise SystemExit(f"unknown rows: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    return names


def main(
    given: Sequence[str] | None = None, groups: Groups = GROUPS, results: Path = RESULTS
) -> int:
    """Run the bench. The exit code is 0 despite missed goals, and 1 if a measurement failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default="", metavar="NAME,...", help="only these rows")
    parser.add_argument("--quick", action="store_true", help="small sizes, one sample of each")
    parser.add_argument("--rounds", type=int, default=0, help="samples of each side")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args(given)
    names = _names(arguments.rows)
    # Text for people goes to standard error, so that --json prints only JSON to standard output.
    console = Console(stderr=True)
    results.mkdir(exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    console.print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{cores} cores shared by server, client and vendor; load before: {os.getloadavg()[0]:.1f}"
    )
    rows = asyncio.run(
        measured(
            names,
            groups,
            rounds=arguments.rounds or (1 if arguments.quick else ROUNDS),
            quick=arguments.quick,
            results=results,
            console=console,
        )
    )
    encoded = write(rows, results)
    if arguments.json:
        print(encoded)
        tell_misses(rows, console)
    else:
        out = Console()
        # A file or a pipe has no width.
        tell(rows, Console(width=None if out.is_terminal else TABLE_WIDTH))
    return int(any(row.is_failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
