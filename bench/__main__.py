"""`python -m bench`: measure, print a table, write bench/results/latest.json."""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.context import Context
from bench.result import Row
from bench.rows.table import GROUPS, NAMES

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
TABLE_WIDTH = 160


async def measured(
    names: Sequence[str], *, rounds: int, quick: bool, console: Console
) -> list[Row]:
    """Measure these rows; one that cannot be measured says why and has no numbers."""
    rows: dict[str, Row] = {}
    for group, measure in GROUPS.items():
        wanted = [name for name in group if name in names]
        if not wanted:
            continue
        shown = " ".join(wanted)
        # On the disk that the checkout is on: a folder of memory would make commits free.
        RESULTS.mkdir(exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=RESULTS, prefix="run-") as folder,
            console.status(shown) as status,
        ):
            context = Context(
                folder=Path(folder),
                rounds=rounds,
                quick=quick,
                progress=lambda text: status.update(f"{shown}: {text}"),  # noqa: B023  used at once
            )
            try:
                found = await measure(context)
            except Exception as error:  # noqa: BLE001  one row's trouble must not lose the others
                found = [Row(name=name, unit="", why=_words(error)) for name in wanted]
        rows |= {row.name: row for row in found}
        # After each group, so that a run that is stopped has not been for nothing.
        write(list(rows.values()))
        for name in wanted:
            console.print(f"  {name}: {_line(rows[name])}", highlight=False)
    return [rows[name] for name in names]


def write(rows: Sequence[Row]) -> str:
    """Write the rows to bench/results/latest.json; return what was written."""
    encoded = msgspec.json.format(msgspec.json.encode(rows)).decode()
    (RESULTS / "latest.json").write_text(encoded + "\n", encoding="utf-8")
    return encoded


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().strip(":")


def _line(row: Row) -> str:
    if row.product is None:
        return f"not measured: {row.why}"
    return f"product {_number(row.product)}, floor {_number(row.floor)}, {row.unit}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> Table:
    """Return the table for people."""
    drawn = Table(title="chatd: product, floor and naive stack in one run")
    for name in ("row", "product", "floor", "naive", "/ floor", "/ naive", "p50 ms", "p99 ms"):
        drawn.add_column(name, justify="left" if name == "row" else "right", no_wrap=True)
    drawn.add_column("unit")
    drawn.add_column("goal")
    drawn.add_column("met")
    for row in rows:
        detail = row.detail.get("product", {})
        drawn.add_row(
            row.name,
            *(_number(value) for value in (row.product, row.floor, row.naive)),
            *(_number(value) for value in (row.ratio_to_floor, row.ratio_to_naive)),
            *(_number(detail.get(name)) for name in ("p50_ms", "p99_ms")),
            row.unit,
            row.why or row.goal or "-",
            "[green]yes[/]" if row.met else "[red]no[/]",
        )
    return drawn


def table_of_cases(row: Row) -> Table:
    """Return the table of the cases of a row."""
    drawn = Table(title=f"{row.name}: longest callback of the event loop in each case")
    for name in ("case", "CPU ms", "wall ms"):
        drawn.add_column(name, justify="left" if name == "case" else "right", no_wrap=True)
    drawn.add_column("which, and in how many of the looks at it")
    for case in row.cases:
        drawn.add_row(case.name, f"{case.cpu_ms:.1f}", f"{case.wall_ms:.1f}", case.where)
    return drawn


def _names(text: str) -> list[str]:
    names = text.split(",") if text else list(NAMES)
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise SystemExit(f"unknown rows: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    return names


def main() -> int:
    """Run; 0 when every row was measured, whatever it says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default="", metavar="NAME,...", help="only these rows")
    parser.add_argument("--quick", action="store_true", help="small sizes, one sample of each")
    parser.add_argument("--rounds", type=int, default=0, help="samples of each side")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    names = _names(arguments.rows)
    # What people read goes to standard error, so that --json gives JSON and nothing else.
    console = Console(stderr=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    console.print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{cores} cores shared by server, client and vendor; load before: {os.getloadavg()[0]:.1f}"
    )
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    rows = asyncio.run(measured(names, rounds=rounds, quick=arguments.quick, console=console))
    encoded = write(rows)
    if arguments.json:
        print(encoded)
    else:
        console = Console()
        # A file or a pipe has no width of its own.
        wide = Console(width=None if console.is_terminal else TABLE_WIDTH)
        wide.print(table(rows))
        for row in rows:
            if row.cases:
                wide.print(table_of_cases(row))
    return 0 if all(row.product is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
