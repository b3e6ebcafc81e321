"""The context that every row gets."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from bench.cpu import cpu_seconds
from bench.load import Seen, Task
from bench.result import Row, Sample
from bench.servers import ROOT, Server

LOAD_SECONDS_MAX = 300.0


class Context(msgspec.Struct, frozen=True):
    """A folder, the number of samples, and a way to report progress."""

    #: Empty, on a disk, removed afterwards.
    folder: Path
    #: Samples of each side.
    rounds: int
    #: Small sizes, to test that everything works.
    quick: bool
    progress: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        """Return the size for this run."""
        return quick if self.quick else full


Measure: TypeAlias = Callable[[Context], Awaitable[list[Row]]]
"""Measures rows; rows from the same runs come together."""


async def loaded(server: Server, task: Task) -> tuple[Seen, float]:
    """Run a load client in its own process; return its result and the server's CPU seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LOAD_SECONDS_MAX):
            process.stdin.write(msgspec.json.encode(task) + b"\n")
            await _line(process.stdout)
            before = cpu_seconds(server.pid)
            process.stdin.write(b"go\n")
            seen = msgspec.json.decode(await _line(process.stdout), type=Seen)
            spent = cpu_seconds(server.pid) - before
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return seen, spent


async def _line(stream: asyncio.StreamReader) -> bytes:
    line = await stream.readline()
    if not line:
        raise LoadFailed("the load client died; see its output above")
    return line


class LoadFailed(Exception):
    """The client did not get what it expected."""


def per_unit(seconds: float, units: int, **detail: float) -> Sample:
    """Return a sample in microseconds per unit."""
    return Sample(seconds / units * 1e6, detail)
