"""The cost of a turn besides its tokens, the time until it begins, and the cost of a replay."""

import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing

from bench.context import Context, loaded, per_unit
from bench.directive import Directive
from bench.lab import seed
from bench.load import Task
from bench.recording import DATABASE, four_sides
from bench.result import Row, Sample, Sides, alternate, row
from bench.servers import MODEL, Server, product, provider, replaying
from chatd_server.domain.message import Text

TURNS = 500
AT_ONCE = 20
WAKES = 300
REPLAYED = 10_000
REPLAYS = 5
"""Reads of the log per sample, one stream after the other."""
REPLAYED_TEXT = Text("lorem ipsum " * 40)
CHAT = "replayed"


async def turn_plain(context: Context) -> list[Row]:
    """Measure turns without tools, 20 at once; their answers are one word.

    The durable floor makes the same three commits. Without the limit, the side that answers
    SendMessage first would have the most open turns, and the most connections to the vendor.
    """
    turns = context.size(TURNS, 30)

    def sampling(server: Server) -> Callable[[], Awaitable[Sample]]:
        async def sample() -> Sample:
            seen, spent = await loaded(server, _task(server, turns, AT_ONCE))
            return per_unit(spent, turns, turns_per_s=turns / seen.seconds)

        return sample

    samples = await _alternated(context, sampling)
    return [row("turn_plain", "CPU us per turn", samples)]


async def wake_to_first_token(context: Context) -> list[Row]:
    """Measure the time from a message to the first delta, one chat after the other."""
    turns = context.size(WAKES, 10)

    def sampling(server: Server) -> Callable[[], Awaitable[Sample]]:
        async def sample() -> Sample:
            seen, spent = await loaded(server, _task(server, turns, 1))
            detail = {"p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms, "cpu_us": spent / turns * 1e6}
            return Sample(seen.p50_ms, detail)

        return sample

    samples = await _alternated(context, sampling)
    return [row("wake_to_first_token", "ms to the first delta, median", samples)]


async def _alternated(
    context: Context, sampling: Callable[[Server], Callable[[], Awaitable[Sample]]]
) -> dict[str, Sample]:
    async with (
        provider(context.folder) as vendor,
        four_sides(context.folder, vendor, Directive()) as servers,
    ):
        sides: Sides = {it.side: sampling(it) for it in servers}
        # The first run also connects to the vendor and imports modules.
        await alternate(sides, 1, lambda what: context.progress(f"{what}, to warm up"))
        return await alternate(sides, context.rounds, context.progress)


def _task(server: Server, chats: int, turns: int) -> Task:
    return Task(
        kind="stream",
        turns=turns,
        address=server.address,
        key=server.key,
        model=MODEL,
        chats=chats,
        text=str(Directive()),
        tokens=1,
    )


async def replay_10000(context: Context) -> list[Row]:
    """Measure a subscriber that resumes 10,000 events behind the head.

    The floor reads the same rows. The naive stack cannot resume, so it is left out.
    """
    home = context.folder / "home"
    events = context.size(REPLAYED, 500)
    # A message and its interrupt are four events; CreateChat is one.
    ids = await seed(home, "", {CHAT: [(REPLAYED_TEXT,)] * (events // 4)})
    with closing(sqlite3.connect(home / DATABASE)) as connection:
        (found,) = connection.execute("SELECT max(sequence) FROM events").fetchone()
    copy = context.folder / "copy.db"
    shutil.copy(home / DATABASE, copy)

    def sampling(server: Server) -> Callable[[], Awaitable[Sample]]:
        task = Task(
            kind="replay",
            address=server.address,
            key=server.key,
            subscribers=REPLAYS,
            tokens=found,
            chat_id=ids[CHAT],
        )

        async def sample() -> Sample:
            seen, spent = await loaded(server, task)
            return per_unit(spent, seen.tokens, events_per_s=seen.tokens / seen.seconds)

        return sample

    async with (
        product(context.folder, "127.0.0.1:1") as first,
        replaying(context.folder, copy) as second,
    ):
        sides: Sides = {it.side: sampling(it) for it in (first, second)}
        samples = await alternate(sides, context.rounds, context.progress)
    return [row("replay_10000", "CPU us per replayed event", samples)]
