"""Tokens from a vendor to subscribers: CPU per delivered token, and latency."""

from collections.abc import Awaitable, Callable

import msgspec

from bench.context import Context, Measure, loaded, per_unit
from bench.directive import Directive
from bench.load import Task
from bench.result import Row, Sample, Sides, alternate, row
from bench.servers import MODEL, Server, all_sides, provider


class Shape(msgspec.Struct, frozen=True):
    """The number of chats and subscribers, and what each chat gets."""

    chats: int
    subscribers: int
    tokens: int
    #: Deltas per second in each chat; 0: as fast as they are read.
    rate: int


def streaming(name: str, full: Shape, quick: Shape) -> Measure:
    """Return the measurement of a row of streamed tokens."""

    async def measure(context: Context) -> list[Row]:
        shape = quick if context.quick else full
        async with (
            provider(context.folder) as vendor,
            all_sides(context.folder, vendor) as servers,
        ):
            sides: Sides = {it.side: _sampling(it, shape) for it in servers}
            # The first run also connects to the vendor and imports modules.
            await alternate(sides, 1, lambda what: context.progress(f"{what}, to warm up"))
            samples = await alternate(sides, context.rounds, context.progress)
        return [row(name, "CPU us per delivered token", samples)]

    return measure


def _sampling(server: Server, shape: Shape) -> Callable[[], Awaitable[Sample]]:
    async def sample() -> Sample:
        task = Task(
            kind="stream",
            address=server.address,
            key=server.key,
            model=MODEL,
            chats=shape.chats,
            subscribers=shape.subscribers,
            text=str(Directive(tokens=shape.tokens, rate=shape.rate)),
            tokens=shape.tokens,
        )
        seen, spent = await loaded(server, task)
        late = {"p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms} if shape.rate else {}
        rate = seen.tokens / seen.seconds
        merged = seen.tokens / max(1, seen.frames)
        return per_unit(spent, seen.tokens, tokens_per_s=rate, tokens_per_frame=merged, **late)

    return sample


e2e_100x50 = streaming("e2e_100x50", Shape(100, 1, 150, 50), Shape(20, 1, 50, 50))
e2e_1000 = streaming("e2e_1000", Shape(1000, 1, 80, 20), Shape(50, 1, 20, 20))
e2e_1x100 = streaming("e2e_1x100", Shape(1, 100, 150, 50), Shape(1, 20, 50, 50))
e2e_burst = streaming("e2e_burst", Shape(100, 1, 300, 0), Shape(10, 1, 200, 0))
