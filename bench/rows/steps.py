"""Steps of one long turn: what a step with a tool costs, and how that grows with the history.

One chat, one turn, one tool call beside some text in every step. The fake vendor notes the
server's CPU time whenever a request arrives, so the cost of step n is what was spent between
request n and request n + 1: parse the answer, commit it, run the tool, commit its result, make
the next request and send it.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import msgspec

from bench.context import Context, loaded
from bench.directive import Directive
from bench.load import Task
from bench.result import Limit, Row, Sample, Sides, alternate, row
from bench.servers import MODEL, Server, all_sides, provider

EARLY = (5, 15)
LATE = (195, 205)
"""Steps whose mean stands for step 10 and step 200."""
STEPS = 206
MESSAGE_BYTES = 2048
SMALL_STEPS = 50
UNIT = "CPU us per step"


async def step_tool(context: Context) -> list[Row]:
    """Measure a step with a tool in a turn of 50 small ones, all of it: durable, with a key."""
    steps = context.size(SMALL_STEPS, 10)

    def limits(bare: Row) -> Sequence[Limit]:
        return (Limit("CPU / floor", bare.ratio_to_floor, 4.0),)

    async with (
        provider(context.folder) as vendor,
        all_sides(context.folder, vendor) as servers,
    ):
        sides: Sides = {
            it.side: _sampling(it, vendor, Directive(steps=steps), (2, steps)) for it in servers
        }
        samples = await alternate(sides, context.rounds, context.progress)
    return [row("step_tool", UNIT, samples, limits)]


async def growth(context: Context) -> list[Row]:
    """Measure step 10 and step 200 of the same turn, with messages of 2 KB."""
    early, late = (EARLY, LATE) if not context.quick else ((3, 6), (12, 15))
    steps = late[1] + 1

    async with (
        provider(context.folder) as vendor,
        all_sides(context.folder, vendor) as servers,
    ):
        directive = Directive(steps=steps, bytes=MESSAGE_BYTES)
        sides: Sides = {
            it.side: _sampling(it, vendor, directive, late, early=early) for it in servers
        }
        samples = await alternate(sides, context.rounds, context.progress)
    first = {
        side: Sample(it.detail["early_us"], {"growth_us": it.value - it.detail["early_us"]})
        for side, it in samples.items()
    }
    grown = {side: it.detail["growth_us"] for side, it in first.items()}

    def limits(bare: Row) -> Sequence[Limit]:  # noqa: ARG001  the growth is of both rows
        ratio = grown["product"] / grown["floor"] if grown["floor"] > 0 else None
        return (
            Limit("growth 10 to 200 / floor's", None if ratio is None else round(ratio, 3), 1.5),
        )

    return [row("step_10", UNIT, first, limits), row("step_200", UNIT, samples, limits)]


def _sampling(
    server: Server,
    vendor: str,
    directive: Directive,
    window: tuple[int, int],
    *,
    early: tuple[int, int] | None = None,
) -> Callable[[], Awaitable[Sample]]:
    told = msgspec.structs.replace(directive, pid=server.pid)

    async def sample() -> Sample:
        # The last answer is one word, and its stamp is the only delta that the client counts.
        task = Task(
            kind="stream",
            address=server.address,
            key=server.key,
            model=MODEL,
            text=str(told),
            tokens=1,
        )
        await loaded(server, task)
        taken = await _samples(vendor)
        detail = {"request_bytes": float(taken[window[0]][1])}
        if early is not None:
            detail["early_us"] = _per_step(taken, early)
        return Sample(_per_step(taken, window), detail)

    return sample


def _per_step(taken: dict[int, tuple[float, int]], window: tuple[int, int]) -> float:
    first, last = window
    return (taken[last][0] - taken[first][0]) / (last - first) * 1e6


async def _samples(vendor: str) -> dict[int, tuple[float, int]]:
    """Return CPU seconds and bytes of the request that followed so many results."""
    async with httpx.AsyncClient() as client:
        found: list[Any] = json.loads((await client.get(f"http://{vendor}/")).content)
    return {results: (cpu, size) for results, cpu, size in found}
