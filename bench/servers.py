"""The measured programs, each in its own process with its own provider."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.cpu import cpu_seconds, resident_bytes

START_SECONDS = 60.0
STOP_SECONDS = 20.0
RUNS_MAX = 20_000
"""The product's number of slots: more chats than any row has."""
MODEL = "anthropic/claude-sonnet-4-6"
ROOT = Path(__file__).parents[1]


class NotStarted(Exception):
    """A required program did not start; the message is its output."""


class Server(msgspec.Struct, frozen=True):
    """A running server under measurement."""

    side: str
    address: str
    pid: int
    #: Its API key; empty if keys are not checked.
    key: str = ""

    @property
    def cpu_seconds(self) -> float:
        """CPU time so far."""
        return cpu_seconds(self.pid)

    @property
    def resident_bytes(self) -> int:
        """Memory now."""
        return resident_bytes(self.pid)


@asynccontextmanager
async def program(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    """Run a Python program that prints one line of JSON when it is ready. Raises NotStarted."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise NotStarted(f"{' '.join(arguments)}: {_text(log)[-2000:]}")
        yield process, json.loads(line)
    finally:
        await _stopped(process)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[str]:
    """Run a fake vendor; yield its address."""
    log = folder / "provider.log"
    async with program(["-m", "bench.floors.provider"], log) as (_, told):
        yield told["address"]


def product_command(home: Path, runs_max: int = RUNS_MAX) -> list[str]:
    """Return the command that a user would start: with keys and a database."""
    arguments = ["serve", "--json", "--home", str(home), "--port", "0", "--drain-seconds", "1"]
    return ["-m", "chatd_server", *arguments, "--runs-max", str(runs_max)]


def product_environment(vendor: str) -> dict[str, str]:
    """Return the environment that points the product to the vendor."""
    return {"CHATD_ANTHROPIC_BASE_URL": f"http://{vendor}", "CHATD_ANTHROPIC_API_KEY": "sk-bench"}


@asynccontextmanager
async def product(folder: Path, vendor: str, runs_max: int = RUNS_MAX) -> AsyncIterator[Server]:
    home = folder / "home"
    log = folder / "product.log"
    command = product_command(home, runs_max)
    async with program(command, log, product_environment(vendor)) as (process, told):
        key = _text(Path(told["root_key_file"])).strip()
        yield Server("product", told["address"], process.pid, key)


@asynccontextmanager
async def replaying(folder: Path, database: Path) -> AsyncIterator[Server]:
    """Run the floor that replays a chat."""
    command = ["-m", "bench.floors.replay", str(database)]
    async with program(command, folder / "replay.log") as (process, told):
        yield Server("floor", told["address"], process.pid)


@asynccontextmanager
async def floor(folder: Path, vendor: str) -> AsyncIterator[Server]:
    log = folder / "floor.log"
    async with program(["-m", "bench.floors.server", vendor], log) as (process, told):
        yield Server("floor", told["address"], process.pid)


@asynccontextmanager
async def durable(folder: Path, vendor: str, recording: Path) -> AsyncIterator[Server]:
    """Run the floor that makes the recorded commits."""
    log = folder / "durable.log"
    command = ["-m", "bench.floors.durable", vendor, str(recording), str(folder / "durable.db")]
    async with program(command, log) as (process, told):
        yield Server("durable", told["address"], process.pid)


@asynccontextmanager
async def naive(folder: Path, vendor: str) -> AsyncIterator[Server]:
    log = folder / "naive.log"
    url = f"sqlite+aiosqlite:///{folder / 'naive.db'}"
    async with program(["-m", "bench.floors.naive", vendor, url], log) as (process, told):
        yield Server("naive", told["address"], process.pid)


@asynccontextmanager
async def all_sides(
    folder: Path, vendor: str, runs_max: int = RUNS_MAX
) -> AsyncIterator[list[Server]]:
    """Run product, floor and naive stack together; only one gets work at a time."""
    async with (
        product(folder, vendor, runs_max) as first,
        floor(folder, vendor) as second,
        naive(folder, vendor) as third,
    ):
        yield [first, second, third]
