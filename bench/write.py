"""Writes answers and measures it; a separate program, so that each side has its own process.

`python -m bench.write SIDE CHATS ROUNDS FOLDER [POSTGRES_URL]` prints one line of JSON: CPU of this
process and latency per write. A round is one write to every chat, all at the same time. Only the
rounds of writes are timed. What a chat needs between two answers (the start of the next attempt) is
written but not timed, by the product and by the SQLite floor: it fills the same log.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.floors.database import PostgresFloor, SqliteFloor, connect, held_in, write_commit
from bench.floors.orm import Command, Event, Message, OrmDatabase, orm_database
from bench.floors.rows import Written, fresh_id, start_of, written_by_product
from bench.loop import run_fast
from bench.result import Sample
from chatd_server.clock import RealClock
from chatd_server.collector import settle
from chatd_server.domain.chat import AttemptKind, ChatConfig, ChatState
from chatd_server.domain.command import CommitAnswer, Create, StartAttempt
from chatd_server.domain.ids import (
    AttemptId,
    ChatId,
    OwnerId,
    WorkerId,
    new_tool_call_id,
    new_uuid,
)
from chatd_server.domain.message import Executor, FinishReason, Text, ToolCall, Usage
from chatd_server.observe import NullObserver
from chatd_server.ports.store import Store
from chatd_server.store.postgres.migrate import migrate
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite.store import SqliteStore

WARM_ROUNDS = 3
LEASE_SECONDS = 3600.0
ANSWER_BYTES = 2048
WORKER = WorkerId("bench")
DATABASE = "product.db"

Write = Callable[[], Awaitable[object]]


class Stopwatch:
    """CPU of this process and latency, over rounds of concurrent writes."""

    def __init__(self) -> None:
        self._cpu = 0.0
        self._wall = 0.0
        self._latencies: list[float] = []
        self.is_warm = False

    async def round(self, writes: Sequence[Write]) -> None:
        """Write all; count the round after the warm-up."""
        latencies: list[float] = []

        async def one(write: Write) -> None:
            began = time.perf_counter()
            await write()
            latencies.append(time.perf_counter() - began)

        cpu, wall = time.process_time(), time.perf_counter()
        if len(writes) == 1:
            await one(writes[0])
        else:
            await asyncio.gather(*map(one, writes))
        if self.is_warm:
            self._cpu += time.process_time() - cpu
            self._wall += time.perf_counter() - wall
            self._latencies += latencies

    def sample(self) -> Sample:
        """Return the means."""
        ordered = sorted(self._latencies)
        count = len(ordered)
        return Sample(
            self._cpu / count * 1e6,
            {
                "writes_per_s": count / self._wall,
                "p50_ms": ordered[count // 2] * 1e3,
                "p99_ms": ordered[count * 99 // 100] * 1e3,
            },
        )


class Author:
    """Writes one chat through the product's store, as the holder of its lease."""

    def __init__(self, store: Store, state: ChatState) -> None:
        self._store = store
        self._state = state
        self._attempt = AttemptId("")
        self._answer = self._made()

    async def start(self) -> None:
        """Begin the attempt that an answer needs."""
        self._attempt = AttemptId(new_uuid(RealClock().now()))
        command = StartAttempt(
            command_id=f"{self._attempt}:start",
            worker_id=WORKER,
            epoch=self._state.epoch,
            attempt_id=self._attempt,
            kind=AttemptKind.MODEL,
        )
        applied = await self._store.apply(self._state.id, command, known=self._state)
        self._state = applied.state
        self._answer = self._made()

    def _made(self) -> CommitAnswer:
        """Return 2 KB of text and a truncated call: two messages, two events."""
        call_id, now = new_tool_call_id(), RealClock().now()
        return CommitAnswer(
            command_id=f"{self._attempt}:answer",
            worker_id=WORKER,
            epoch=self._state.epoch,
            attempt_id=self._attempt,
            parts=(
                Text("x" * ANSWER_BYTES),
                ToolCall(call_id, "current_time", "{", Executor.SERVER, now),
            ),
            finish_reason=FinishReason.MAX_TOKENS,
            model="anthropic/claude-sonnet-4-6",
            usage=Usage(input_tokens=10, output_tokens=100),
        )

    async def answer(self) -> None:
        """Commit the answer: the measured part."""
        applied = await self._store.apply(self._state.id, self._answer, known=self._state)
        assert len(applied.events) == 2
        self._state = applied.state


async def authors(store: Store, chats: int) -> list[Author]:
    """Create chats and acquire them."""
    clock = RealClock()
    for _ in range(chats):
        chat_id = ChatId(new_uuid(clock.now()))
        command = Create(
            command_id=chat_id,
            chat_id=chat_id,
            owner_id=OwnerId("bench"),
            config=ChatConfig(model="anthropic/claude-sonnet-4-6"),
            parts=(Text("hello"),),
        )
        await store.apply(chat_id, command)
    held = (await store.acquire(WORKER, chats, LEASE_SECONDS)).chats
    assert len(held) == chats
    return [Author(store, it.state) for it in held]


async def opened(folder: Path, url: str, stack: AsyncExitStack) -> Store:
    """Open the product's store."""
    clock, observer = RealClock(), NullObserver()
    store: SqliteStore | PostgresStore
    if url:
        store = await PostgresStore.open(
            url, clock=clock, wake=LocalWake(), observer=observer, writers=16
        )
    else:
        path = folder / DATABASE
        store = await SqliteStore.open(path, clock=clock, wake=LocalWake(), observer=observer)
    stack.push_async_callback(store.close)
    return store


async def product(chats: int, rounds: int, folder: Path, url: str) -> Sample:
    """Measure `store.apply` with the state that the lease holder knows."""
    watch = Stopwatch()
    async with AsyncExitStack() as stack:
        if url:
            await migrate(url)
        store = await opened(folder, url, stack)
        held = await authors(store, chats)
        writes = [author.answer for author in held]
        for number in range(WARM_ROUNDS + rounds):
            watch.is_warm = number >= WARM_ROUNDS
            await asyncio.gather(*(author.start() for author in held))
            await watch.round(writes)
    return watch.sample()


async def rows_of_product(folder: Path) -> Written:
    """Let the product write one answer; return its rows."""
    pattern = folder / "pattern"
    pattern.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        store = await opened(pattern, "", stack)
        (author,) = await authors(store, 1)
        await author.start()
        await author.answer()
    return written_by_product(pattern / DATABASE)


async def held_by_product(chats: int, folder: Path, url: str) -> None:
    """Let the product create chats that a worker holds."""
    async with AsyncExitStack() as stack:
        if url:
            await migrate(url)
        await authors(await opened(folder, url, stack), chats)


async def floor(chats: int, rounds: int, folder: Path, url: str) -> Sample:
    """Measure the driver alone, with the rows of the product."""
    rows = await rows_of_product(folder)
    await held_by_product(chats, folder, url)
    watch = Stopwatch()
    writes: list[Write]
    starts: list[Write] = []
    if url:
        links = await PostgresFloor.open(url, rows, chats)
        found = await links.chats()
        writes = [partial(links.writer(number), chat) for number, chat in enumerate(found)]
        close = links.close
    else:
        thread = SqliteFloor(folder / DATABASE)
        held = thread.held()
        starts = [partial(thread.write, chat, start_of(rows)) for chat in held]
        writes = [partial(thread.write, chat, rows) for chat in held]
        close = thread.close
    assert len(writes) == chats
    for number in range(WARM_ROUNDS + rounds):
        watch.is_warm = number >= WARM_ROUNDS
        await asyncio.gather(*(start() for start in starts))
        await watch.round(writes)
    await close()
    sample = watch.sample()
    if not url and chats == 1:
        sample.detail["same_thread_us"] = _same_thread(folder / DATABASE, rows, rounds)
    return sample


def _same_thread(path: Path, rows: Written, rounds: int) -> float:
    """Return the CPU microseconds of a write without a thread, which no server can do."""
    connection = connect(path)
    (chat, *_) = held_in(connection)
    cursor = connection.cursor()
    began = time.process_time()
    for _ in range(rounds):
        cursor.execute("BEGIN IMMEDIATE")
        write_commit(cursor, chat, rows)
        cursor.execute("COMMIT")
    spent = time.process_time() - began
    connection.close()
    return spent / rounds * 1e6


class OrmChat:
    """Writes one chat through the ORM."""

    def __init__(self, database: OrmDatabase, row_id: int, rows: Written, lock: Any) -> None:
        self._database = database
        self._row_id = row_id
        self._rows = rows
        self._lock = lock

    async def write(self) -> None:
        """Load the chat, change it, add the rows, commit."""
        async with self._lock, self._database.session.begin() as session:
            chat = await self._database.chat(session, self._row_id)
            now = time.time_ns() // 1000
            sequence, position = chat.head_sequence, chat.next_position
            for number, (role, content) in enumerate(self._rows.messages):
                session.add(
                    Message(
                        chat=chat.id,
                        position=position + number,
                        uuid=fresh_id(),
                        role=role,
                        sequence=sequence + number + 1,
                        content_version=1,
                        content=content,
                    )
                )
            for number, (kind, payload) in enumerate(self._rows.events):
                session.add(
                    Event(
                        chat=chat.id,
                        sequence=sequence + number + 1,
                        kind=kind,
                        at=now,
                        position=position + number if payload is None else None,
                        content_version=1,
                        payload=payload,
                        txid=now,
                    )
                )
            chat.revision += 1
            chat.head_sequence = sequence + len(self._rows.events)
            chat.next_position = position + len(self._rows.messages)
            chat.updated_at = now
            chat.state = self._rows.state + b" " * (chat.revision % 2)
            head = chat.head_sequence
            key = fresh_id().encode()[:16]
            session.add(Command(key=key, chat=chat.id, sequence=head, created_at=now))


class NoLock:
    """PostgreSQL allows many writers."""

    async def __aenter__(self) -> None:
        """Enter."""

    async def __aexit__(self, *_: object) -> None:
        """Leave."""


async def naive(chats: int, rounds: int, folder: Path, url: str) -> Sample:
    """Measure the ORM, with the rows of the product."""
    rows = await rows_of_product(folder)
    watch = Stopwatch()
    orm_url = url.replace("postgresql://", "postgresql+asyncpg://")
    async with orm_database(orm_url or f"sqlite+aiosqlite:///{folder / 'orm.db'}") as database:
        lock = NoLock() if url else asyncio.Lock()
        made = [await database.add_chat(f"chat-{number}") for number in range(chats)]
        writes = [OrmChat(database, row_id, rows, lock).write for row_id in made]
        for number in range(WARM_ROUNDS + rounds):
            watch.is_warm = number >= WARM_ROUNDS
            await watch.round(writes)
    return watch.sample()


SIDES = {"product": product, "floor": floor, "naive": naive}


async def main(side: str, chats: int, rounds: int, folder: Path, url: str) -> None:
    """Measure one side, and print the result."""
    settle()  # as a server does, for all sides
    sample = await SIDES[side](chats, rounds, folder, url)
    print(msgspec.json.encode(sample).decode(), flush=True)


if __name__ == "__main__":
    side, chats, rounds, folder, *rest = sys.argv[1:]
    program = main(side, int(chats), int(rounds), Path(folder), rest[0] if rest else "")
    if side == "naive":
        asyncio.run(program)
    else:
        run_fast(program)
