"""Calls, starts and idle streams."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc
import msgspec
from grpc_health.v1 import health_pb2

from bench.context import Context, LoadFailed, loaded, per_unit
from bench.directive import Directive
from bench.load import Task
from bench.recording import four_sides
from bench.result import Row, Sample, Sides, alternate, row
from bench.servers import (
    MODEL,
    ROOT,
    Server,
    all_sides,
    product_command,
    product_environment,
    program,
    provider,
)

SENDS = 2000
IDLE_STREAMS = 10_000
IDLE_CHATS = 1_000
IDLE_SECONDS = 5.0
KIB = 1024


async def unary_send(context: Context) -> list[Row]:
    """Measure SendMessage to waiting chats on a server whose slots are all taken.

    The product has one slot, taken by a chat whose model never continues. So each call is
    checked, decided and committed, and nothing more. The others begin no turn either; the durable
    floor makes the same commit.
    """
    chats = context.size(SENDS, 50)

    def sampling(server: Server) -> Callable[[], Awaitable[Sample]]:
        async def sample() -> Sample:
            task = Task(
                kind="send",
                address=server.address,
                key=server.key,
                model=MODEL,
                chats=chats,
                text=str(Directive(hold=1)),
            )
            seen, spent = await loaded(server, task)
            return per_unit(spent, chats, rpcs_per_s=chats / seen.seconds)

        return sample

    async with (
        provider(context.folder) as vendor,
        four_sides(context.folder, vendor, Directive(), runs_max=1) as servers,
    ):
        sides: Sides = {it.side: sampling(it) for it in servers}
        samples = await alternate(sides, context.rounds, context.progress)
    return [row("unary_send", "CPU us per RPC", samples)]


# --- starts ----------------------------------------------------------------------------------


async def cold_start(context: Context) -> list[Row]:
    """Measure the first start in an empty folder, until health is SERVING."""

    async def product() -> Sample:
        with tempfile.TemporaryDirectory(dir=context.folder) as folder:
            command = product_command(Path(folder) / "home")
            first = await _start(command, context.folder)
            again = await _start(command, context.folder)
        detail = {f"again_{name}": value for name, value in again.detail.items()}
        return Sample(first.value, {**first.detail, **detail, "again_cpu_ms": again.value})

    async def floor() -> Sample:
        return await _start(["-m", "bench.floors.server", "127.0.0.1:1"], context.folder)

    async def naive() -> Sample:
        with tempfile.TemporaryDirectory(dir=context.folder) as folder:
            url = f"sqlite+aiosqlite:///{folder}/naive.db"
            command = ["-m", "bench.floors.naive", "127.0.0.1:1", url]
            return await _start(command, context.folder)

    sides: Sides = {"product": product, "floor": floor, "naive": naive}
    samples = await alternate(sides, context.rounds, context.progress)
    return [row("cold_start", "CPU ms until it serves", samples)]


async def _start(command: Sequence[str], folder: Path) -> Sample:
    began = time.perf_counter()
    environment = product_environment("127.0.0.1:1")
    async with program(command, folder / "start.log", environment) as (process, told):
        server = Server("", told["address"], process.pid)
        if "root_key_file" in told:
            await _healthy(server.address)
        wall = time.perf_counter() - began
        detail = {"wall_ms": wall * 1e3, "rss_mib": server.resident_bytes / KIB / KIB}
        return Sample(server.cpu_seconds * 1e3, detail)


async def _healthy(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


# --- idle streams ----------------------------------------------------------------------------


async def idle_10000(context: Context) -> list[Row]:
    """Measure the memory and CPU of an open stream without events."""
    chats = context.size(IDLE_CHATS, 50)
    streams = context.size(IDLE_STREAMS, 500)
    samples: dict[str, Sample] = {}
    async with provider(context.folder) as vendor, all_sides(context.folder, vendor) as servers:
        # One sample of each, one after the other: a process keeps memory that it has used.
        for server in servers:
            context.progress(server.side)
            samples[server.side] = await _idle(server, chats, streams // chats)

    return [row("idle_10000", "KiB per idle stream", samples)]


async def _idle(server: Server, chats: int, subscribers: int) -> Sample:
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
    before = server.resident_bytes
    task = Task(
        kind="hold",
        address=server.address,
        key=server.key,
        model=MODEL,
        chats=chats,
        subscribers=subscribers,
    )
    try:
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        if not await process.stdout.readline():
            raise LoadFailed("the load client died; see its output above")
        held = server.resident_bytes - before
        cpu = server.cpu_seconds
        await asyncio.sleep(IDLE_SECONDS)
        busy = (server.cpu_seconds - cpu) / IDLE_SECONDS * 100
        process.stdin.write(b"go\n")
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Sample(held / (chats * subscribers) / KIB, {"idle_cpu_percent": busy})
