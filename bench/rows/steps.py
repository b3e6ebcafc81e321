"""Steps of one long turn: the cost of a step with a tool, and how it grows with the history.

One chat, one turn, one tool call and some text in every step. The fake vendor records the server's
CPU time at each request, so the cost of step n is the CPU time between request n and request
n + 1: parse the answer, commit it, run the tool, commit its result, build the next request and send
it. The durable floor makes the same two commits for each step.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec

from bench.context import Context, loaded
from bench.directive import Directive
from bench.load import Task
from bench.recording import four_sides
from bench.result import Row, Sample, Sides, alternate, row
from bench.servers import MODEL, Server, provider

EARLY = (5, 15)
LATE = (195, 205)
"""The steps whose mean is reported as step 10 and step 200."""
STEPS = 206
MESSAGE_BYTES = 2048
SMALL_STEPS = 50
UNIT = "CPU us per step"


async def step_tool(context: Context) -> list[Row]:
    """Measure a whole step with a tool in a turn of 50 small ones: durable, with a key."""
    steps = context.size(SMALL_STEPS, 10)

    async with (
        provider(context.folder) as vendor,
        four_sides(context.folder, vendor, Directive(steps=1)) as servers,
    ):
        sides: Sides = {
            it.side: _sampling(it, vendor, Directive(steps=steps), (2, steps)) for it in servers
        }
        samples = await alternate(sides, context.rounds, context.progress)
    return [row("step_tool", UNIT, samples)]


async def growth(context: Context) -> list[Row]:
    """Measure step 10 and step 200 of the same turn, with messages of 2 KB."""
    early, late = (EARLY, LATE) if not context.quick else ((3, 6), (12, 15))
    steps = late[1] + 1

    async with (
        provider(context.folder) as vendor,
        four_sides(context.folder, vendor, Directive(steps=1, bytes=MESSAGE_BYTES)) as servers,
    ):
        directive = Directive(steps=steps, bytes=MESSAGE_BYTES)
        sides: Sides = {
            it.side: _sampling(it, vendor, directive, late, early=early) for it in servers
        }
        samples = await alternate(sides, context.rounds, context.progress)
    grown = {side: it.value - it.detail["early_us"] for side, it in samples.items()}
    first = {
        side: Sample(it.detail["early_us"], {"growth_us": grown[side]})
        for side, it in samples.items()
    }
    last = {
        side: Sample(it.value, {**it.detail, "growth_us": grown[side]}, it.values)
        for side, it in samples.items()
    }
    return [row("step_10", UNIT, first), row("step_200", UNIT, last)]


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
        # The last answer is one word; its time stamp is the only delta that the client counts.
        task = Task(
            kind="stream",
            address=server.address,
            key=server.key,
            model=MODEL,
            text=str(told),
            tokens=1,
        )
        await loaded(server, task)
        taken = await vendor_samples(vendor)
        detail = {"request_bytes": float(taken[window[0]][1])}
        if early is not None:
            detail["early_us"] = per_step(taken, early)
        return Sample(per_step(taken, window), detail)

    return sample


def per_step(taken: dict[int, tuple[float, int]], window: tuple[int, int]) -> float:
    """Return the microseconds of CPU time per step between two numbers of results."""
    first, last = window
    return (taken[last][0] - taken[first][0]) / (last - first) * 1e6


async def vendor_samples(vendor: str) -> dict[int, tuple[float, int]]:
    """Return the CPU seconds and the bytes of the request after each number of results."""
    async with httpx.AsyncClient() as client:
        found: list[Any] = json.loads((await client.get(f"http://{vendor}/")).content)
    return {results: (cpu, size) for results, cpu, size in found}
