"""The longest callback of the event loop, with the largest accepted inputs."""

from bench.context import Context
from bench.lab import HOME, seed, watched
from bench.loop_cases import CASES, FIRST, QUICK, histories
from bench.result import Case, Row, Sample, row
from bench.servers import provider
from tests.kit.postgres import PostgresUnavailableError, running_postgres

MESSAGES = 10_000
UNIT = "CPU ms of the longest callback"


async def loop_longest(context: Context) -> list[Row]:
    """Measure the product alone: how long its longest callback takes in each case.

    The other sides do not limit their inputs, so a comparison would mean nothing.
    """
    return [await _measured(context, "loop_longest", "")]


async def loop_longest_pg(context: Context) -> list[Row]:
    """Measure the same on PostgreSQL; if there is none, the row says so."""
    name = "loop_longest_pg"
    try:
        with running_postgres() as server:
            return [await _measured(context, name, server.create_database())]
    except PostgresUnavailableError as error:
        return [Row(name=name, unit=UNIT, why=str(error))]


async def _measured(context: Context, name: str, url: str) -> Row:
    cases: list[Case] = []
    ids = await seed(context.folder / HOME, url, histories(context.size(MESSAGES, 500)))
    async with provider(context.folder) as vendor, watched(context.folder, vendor, url) as lab:
        # The first turn includes lazy loading, which is not measured.
        await FIRST(lab, ids)
        for case in QUICK if context.quick else CASES:
            context.progress(case)
            await lab.longest()
            await CASES[case](lab, ids)
            seen = await lab.longest()
            cases.append(Case(case, round(seen.cpu_ms, 1), round(seen.wall_ms, 1), seen.where))
    longest = max(cases, key=lambda case: case.cpu_ms)
    sample = Sample(longest.cpu_ms, {"wall_ms": max(case.wall_ms for case in cases)})
    found = row(name, UNIT, {"product": sample})
    found.cases.extend(cases)
    return found
