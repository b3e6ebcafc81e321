"""One CommitAnswer with 2 KB, 2 events and its command row, on both databases."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.context import Context, LoadFailed, Measure
from bench.result import Row, Sample, Sides, alternate, row
from bench.servers import ROOT
from tests.kit.postgres import Postgres, PostgresUnavailableError, running_postgres

POSTGRES_WRITERS = 16
SAMPLE_SECONDS_MAX = 180.0
SIDES = ("product", "floor", "naive")
ROUNDS_MIN = 5
"""The goal asks for five runs, and a sample takes about a second."""


def sqlite(name: str, chats: int, writes: int) -> Measure:
    """Return the measurement of writes to SQLite."""

    async def measure(context: Context) -> list[Row]:
        count = max(1, context.size(writes, writes // 10) // chats)
        sides: Sides = {side: _sampling(context, side, chats, count) for side in SIDES}
        samples = await alternate(sides, _rounds(context), context.progress)
        return [row(name, "CPU us per write", samples)]

    return measure


def postgres(name: str, writes: int) -> Measure:
    """Return the measurement of writes to PostgreSQL; if there is none, the row says so."""

    async def measure(context: Context) -> list[Row]:
        count = max(1, context.size(writes, writes // 10) // POSTGRES_WRITERS)
        try:
            with _server() as server:
                sides: Sides = {
                    side: _sampling(context, side, POSTGRES_WRITERS, count, server)
                    for side in SIDES
                }
                samples = await alternate(sides, _rounds(context), context.progress)
        except PostgresUnavailableError as error:
            return [Row(name=name, unit="CPU us per write", why=str(error))]
        return [row(name, "CPU us per write", samples)]

    return measure


def _rounds(context: Context) -> int:
    return context.rounds if context.quick else max(context.rounds, ROUNDS_MIN)


@contextmanager
def _server() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def _sampling(
    context: Context, side: str, chats: int, count: int, server: Postgres | None = None
) -> Callable[[], Awaitable[Sample]]:
    # The ORM is so slow that fewer rounds are just as exact.
    rounds = max(1, count // 4) if side == "naive" else count

    async def sample() -> Sample:
        folder = Path(tempfile.mkdtemp(dir=context.folder))
        url = "" if server is None else server.create_database()
        try:
            return await _measured([side, str(chats), str(rounds), str(folder), url])
        finally:
            shutil.rmtree(folder)
            if server is not None:
                server.drop_database(url)

    return sample


async def _measured(arguments: Sequence[str]) -> Sample:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.write",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(SAMPLE_SECONDS_MAX):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not told:
        raise LoadFailed(f"bench.write {arguments[0]} died; see its output above")
    return msgspec.json.decode(told, type=Sample)


write_sqlite_1 = sqlite("write_sqlite_1", 1, 2000)
write_sqlite_64 = sqlite("write_sqlite_64", 64, 6400)
write_pg_16 = postgres("write_pg_16", 4800)
