"""Hints: inside a process, between processes, and after the connection was lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from chatd_server.clock import RealClock
from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import NullObserver, spans
from chatd_server.ports.wake import Wake
from chatd_server.store.postgres import wake as wake_module
from chatd_server.store.postgres.wake import PAYLOAD_BYTES_MAX, Hint, PostgresWake, pack, unpack
from chatd_server.store.shared.wake import LocalWake
from tests.kit.clock import ManualClock
from tests.kit.observer import RecordingObserver

CHAT = ChatId("01890a5d-ac96-774b-bcce-b302099a8057")


class Listener:
    """Keeps what it was told, and lets a test wait for it."""

    def __init__(self, wake: Wake) -> None:
        self.heard: list[Hint] = []
        self._wanted: Hint | None = None
        self._found = asyncio.Event()
        self.stop = wake.listen(self._take)

    def _take(self, chat_id: ChatId, revision: int, status: Status) -> None:
        self.heard.append(Hint(chat_id, revision, status))
        if self.heard[-1] == self._wanted:
            self._found.set()

    async def until(self, hint: Hint) -> None:
        """Wait until this hint was heard."""
        self._wanted = hint
        if hint not in self.heard:
            self._found.clear()
            await self._found.wait()


@asynccontextmanager
async def running(
    url: str, observer: RecordingObserver | None = None, clock: ManualClock | None = None
) -> AsyncIterator[PostgresWake]:
    """Run the wake of one process."""
    wake = PostgresWake(url, clock or RealClock(), observer or NullObserver())
    await wake.start()
    try:
        yield wake
    finally:
        await wake.stop()


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect as somebody else."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def kill_wakes(connection: asyncpg.Connection) -> int:
    """Cut every connection of chatd to this database; return how many."""
    cut = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'chatd' AND datname = current_database()"
    )
    return len(cut)


def connection_of(wake: PostgresWake) -> asyncpg.Connection:
    """Return the connection that a wake works on."""
    assert wake._connection is not None
    return wake._connection


def test_local_hint_reaches_every_listener_until_it_stops() -> None:
    """A listener that stopped hears nothing more; the others do."""
    wake = LocalWake()
    first: list[Hint] = []
    second: list[Hint] = []
    stop = wake.listen(lambda *hint: first.append(Hint(*hint)))
    wake.listen(lambda *hint: second.append(Hint(*hint)))

    wake.hint(CHAT, 1, Status.PENDING)
    stop()
    stop()
    wake.hint(CHAT, 2, Status.RUNNING)

    assert first == [(CHAT, 1, Status.PENDING)]
    assert second == [(CHAT, 1, Status.PENDING), (CHAT, 2, Status.RUNNING)]


def test_payloads_are_bounded_and_hold_every_hint_once() -> None:
    """However many chats changed, each payload is one that PostgreSQL takes."""
    hints = [Hint(ChatId(f"{CHAT[:-4]}{n:04}"), n, Status.REQUIRES_ACTION) for n in range(1_000)]

    payloads = list(pack(hints))

    assert max(len(payload.encode()) for payload in payloads) <= PAYLOAD_BYTES_MAX
    assert len(payloads) <= 10
    assert [hint for payload in payloads for hint in unpack(payload)] == hints


@pytest.mark.parametrize("line", ["", "x", f"{CHAT} 1 resting", f"{CHAT} one waiting", f"{CHAT} 1"])
def test_hint_of_another_version_is_skipped(line: str) -> None:
    """A line that this version cannot read does not hide the other lines."""
    good = f"{CHAT} 7 waiting"
    assert list(unpack(f"{good}\n{line}\n{good}")) == [Hint(CHAT, 7, Status.WAITING)] * 2


async def test_hint_crosses_from_one_process_to_another(postgres_url: str) -> None:
    """The other process hears it, and the own one exactly once."""
    async with running(postgres_url) as here, running(postgres_url) as there:
        own, other = Listener(here), Listener(there)

        here.hint(CHAT, 3, Status.PENDING)
        await other.until(Hint(CHAT, 3, Status.PENDING))
        there.hint(CHAT, 4, Status.RUNNING)
        await own.until(Hint(CHAT, 4, Status.RUNNING))

        assert own.heard == other.heard == [(CHAT, 3, "pending"), (CHAT, 4, "running")]


async def test_hints_of_one_moment_are_one_statement(postgres_url: str) -> None:
    """A thousand hints for a hundred chats travel as one statement with the newest of each."""
    chats = [ChatId(f"{CHAT[:-4]}{n:04}") for n in range(100)]
    async with running(postgres_url) as here, watching(postgres_url) as other:
        payloads: list[str] = []
        done = asyncio.Event()

        def receive(connection: object, pid: int, channel: str, payload: str) -> None:
            del connection, pid, channel
            payloads.append(payload)
            if "last" in payload:
                done.set()

        await other.add_listener(wake_module.CHANNEL, receive)
        statements: list[str] = []
        logged = asyncio.Event()

        def log(record: Any) -> None:
            statements.append(record.query)
            logged.set()

        connection_of(here).add_query_logger(log)

        for revision in range(10):
            for chat in chats:
                here.hint(chat, revision, Status.RUNNING)
        here.hint(ChatId("last"), 1, Status.WAITING)
        await done.wait()
        await logged.wait()

        assert len(statements) == 1
        heard = [hint for payload in payloads for hint in unpack(payload)]
        assert heard[:-1] == [Hint(chat, 9, Status.RUNNING) for chat in chats]


async def test_lost_connection_comes_back_and_listeners_are_told(postgres_url: str) -> None:
    """A killed LISTEN is noticed at once: a poll finds what the gap hid, later hints are heard."""
    observer = RecordingObserver()
    async with running(postgres_url, observer) as here, watching(postgres_url) as other:
        listener = Listener(here)
        gaps: list[str] = []
        stop = here.listen_gaps(lambda: gaps.append("gap"))

        assert await kill_wakes(other) == 1
        await observer.until(spans.WakeReconnected)

        assert gaps == ["gap"]
        stop()
        await other.execute(f"SELECT pg_notify('{wake_module.CHANNEL}', '{CHAT} 9 error')")
        await listener.until(Hint(CHAT, 9, Status.ERROR))


async def test_hint_given_during_an_outage_is_sent_after_it(postgres_url: str) -> None:
    """While there is no connection a hint neither blocks nor raises, and it waits."""
    observer, clock = RecordingObserver(), ManualClock()
    async with running(postgres_url, observer, clock) as here, running(postgres_url) as there:
        listener = Listener(there)
        lost = connection_of(here)
        lost.terminate()
        await clock.sleeping("wake.reconnect")

        here.hint(CHAT, 5, Status.PENDING)
        await clock.advance_to("wake.reconnect")

        await listener.until(Hint(CHAT, 5, Status.PENDING))
        assert len(observer.noted(spans.WakeReconnected)) == 1


class Broken:
    """A connection that is cut while it sends."""

    async def execute(self, *_: object) -> None:
        """Fail."""
        raise ConnectionResetError


async def test_hint_that_was_cut_while_it_was_sent_is_sent_again(postgres_url: str) -> None:
    """What a dead connection took along goes out with the next, the newest of each chat."""
    wake = PostgresWake(postgres_url, RealClock(), NullObserver())
    other = ChatId("01890a5d-ac96-774b-bcce-b302099a8058")
    wake.hint(CHAT, 1, Status.PENDING)
    wake.hint(other, 1, Status.PENDING)
    with pytest.raises(ConnectionResetError):
        await wake._send_pending(Broken())
    wake.hint(CHAT, 2, Status.RUNNING)

    async with running(postgres_url) as there:
        listener = Listener(there)
        await wake.start()
        await listener.until(Hint(other, 1, Status.PENDING))
        await listener.until(Hint(CHAT, 2, Status.RUNNING))
        assert len(listener.heard) == 2
        await wake.stop()


async def test_silent_connection_is_tried(postgres_url: str) -> None:
    """A connection that died without a word is found by the statement of a quiet time."""
    observer, clock = RecordingObserver(), ManualClock()
    async with running(postgres_url, observer, clock) as here:
        statements: list[str] = []
        connection = connection_of(here)
        connection.add_query_logger(lambda record: statements.append(record.query))

        await clock.advance_to("wake.quiet")
        await clock.sleeping("wake.quiet")

        assert statements == ["SELECT 1"]
        assert observer.facts == []


async def test_start_says_that_the_database_is_away() -> None:
    """A server that cannot listen does not begin."""
    wake = PostgresWake("postgresql://chatd@127.0.0.1:1/none", RealClock(), NullObserver())
    with pytest.raises(DatabaseUnavailable):
        await wake.start()
    await wake.stop()


async def test_a_defect_in_a_listener_ends_the_server_and_is_not_a_silent_one(
    postgres_url: str,
) -> None:
    """Without hints from others a server would go on, and be late with everything."""
    async with running(postgres_url) as wake:

        def broken() -> None:
            raise ZeroDivisionError

        wake.listen_gaps(broken)
        assert wake._connection is not None
        wake._connection.terminate()
        with pytest.raises(ZeroDivisionError):
            await wake.failed()
