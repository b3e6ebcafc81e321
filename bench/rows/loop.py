"""The longest turn of the event loop, under the largest of everything that is accepted."""

from bench.context import Context
from bench.lab import seed, watched
from bench.loop_cases import CASES, QUICK, histories
from bench.result import Case, Limit, Row, Sample, row
from bench.servers import provider

CALLBACK_MS_MAX = 20.0
"""A token that waits for it is late by a frame or so; nobody sees that."""
MESSAGES = 10_000


async def loop_longest(context: Context) -> list[Row]:
    """Measure the product alone: how long its longest callback takes in each case.

    Other sides would say nothing: what they accept is not bounded.
    """
    cases: list[Case] = []
    ids = await seed(context.folder, histories(context.size(MESSAGES, 500)))
    async with provider(context.folder) as vendor, watched(context.folder, vendor) as lab:
        for name in QUICK if context.quick else CASES:
            context.progress(name)
            await lab.longest()
            await CASES[name](lab, ids)
            seen = await lab.longest()
            cases.append(Case(name, round(seen.cpu_ms, 1), round(seen.wall_ms, 1), seen.where))
    longest = max(cases, key=lambda case: case.cpu_ms)
    sample = Sample(longest.cpu_ms, {"wall_ms": max(case.wall_ms for case in cases)})
    found = row(
        "loop_longest",
        "CPU ms of the longest callback",
        {"product": sample},
        lambda bare: (Limit("CPU ms", bare.product, CALLBACK_MS_MAX),),
    )
    found.cases.extend(cases)
    return [found]
