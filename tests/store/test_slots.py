"""Which dead server a new one replaces, and what proves nothing."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import WorkerId
from chatd_server.observe import spans
from chatd_server.store.postgres.slots import LOCAL_FILE_SYSTEMS, Slots, _file_system, this_machine
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.wake import LocalWake
from tests.kit.clock import ManualClock
from tests.kit.observer import RecordingObserver
from tests.kit.require import missing
from tests.store.desk import W1, W2, Desk
from tests.store.outages import locked

W3 = WorkerId("w3")
HERE = this_machine()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a home whose locks can prove something."""
    with (tmp_path / "probe").open("w") as probe:
        kind = _file_system(probe.fileno())
    if not HERE.boot_id or kind not in LOCAL_FILE_SYSTEMS:
        missing("local-locks", f"the file system {kind!r} of this system proves no death")
    return tmp_path


@pytest.fixture
def clock() -> ManualClock:
    """Give the store's clock."""
    return ManualClock()


@pytest.fixture
def observer() -> RecordingObserver:
    """Give the store's observer."""
    return RecordingObserver()


@pytest.fixture
async def shared(
    migrated_url: str, clock: ManualClock, observer: RecordingObserver
) -> AsyncIterator[PostgresStore]:
    """Give a shared store whose clock is held; its leases go by PostgreSQL's."""
    store = await PostgresStore.open(
        migrated_url, clock=clock, wake=LocalWake(), observer=observer, writers=2
    )
    yield store
    await store.close()


def died(home: Path, worker_id: WorkerId, database: str = "db") -> None:
    """Leave what a killed server leaves: the kernel closes its files."""
    slots = Slots(home, database)
    slots.take(worker_id)
    slots.release()


def test_a_server_replaces_the_one_that_died(home: Path) -> None:
    """Its worker is named until the new one has written itself down."""
    died(home, W1)
    for _ in range(2):
        slots = Slots(home, "db")
        assert slots.dead == [W1]
        slots.release()
    died(home, W2)
    slots = Slots(home, "db")
    assert slots.dead == [W2]
    slots.release()


def test_a_server_that_lives_is_never_replaced(home: Path) -> None:
    """Each of two servers of a home has a slot of its own."""
    first, second = Slots(home, "db"), Slots(home, "db")
    first.take(W1)
    second.take(W2)
    third = Slots(home, "db")
    assert third.dead == []
    second.release()
    third.release()
    fourth = Slots(home, "db")
    assert fourth.dead == [W2]
    fourth.release()
    first.release()


def test_one_server_replaces_all_that_died(home: Path) -> None:
    """After a crash of the machine's memory only one of two may come back."""
    first, second = Slots(home, "db"), Slots(home, "db")
    first.take(W1)
    second.take(W2)
    first.release()
    second.release()
    third = Slots(home, "db")
    assert third.dead == [W1, W2]
    third.take(W3)
    third.release()
    fourth = Slots(home, "db")
    assert fourth.dead == [W3]
    fourth.release()


def test_a_slot_of_another_database_is_left_to_its_servers(home: Path) -> None:
    """One home may serve two databases; neither forgets the dead of the other."""
    died(home, W1, "one")
    died(home, W2, "other")
    for database, dead in (("one", W1), ("other", W2)):
        slots = Slots(home, database)
        assert slots.dead == [dead]
        slots.release()


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(msgspec.structs.replace(HERE, boot_id="another"), id="another boot"),
        pytest.param(msgspec.structs.replace(HERE, boot_id=""), id="a system that does not tell"),
        pytest.param(msgspec.structs.replace(HERE, host="another"), id="another host or container"),
        pytest.param(
            msgspec.structs.replace(HERE, local_file_systems=frozenset()), id="a network home"
        ),
    ],
)
def test_what_is_not_proven_is_not_replaced(home: Path, machine: "object") -> None:
    """The lock alone proves nothing where another kernel may have given it."""
    died(home, W1)
    assert isinstance(machine, type(HERE))
    slots = Slots(home, "db", machine)
    assert slots.dead == []
    slots.release()


def test_a_copied_home_proves_nothing(home: Path) -> None:
    """The server whose home was copied lives, though nobody holds the lock of the copy."""
    original = home / "home"
    original.mkdir()
    living = Slots(original, "db")
    living.take(W1)
    shutil.copytree(original, home / "copy")
    slots = Slots(home / "copy", "db")
    assert slots.dead == []
    slots.release()
    living.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_record_that_cannot_be_read_proves_nothing(home: Path, content: bytes) -> None:
    """Its server died while it wrote, before it held a lease; the slot is used again."""
    (home / "server-1.lock").write_bytes(content)
    slots = Slots(home, "db")
    assert slots.dead == []
    slots.take(W1)
    assert json.loads((home / "server-1.lock").read_bytes())["worker_id"] == W1
    slots.release()


def test_a_home_that_cannot_be_locked_is_done_without(tmp_path: Path) -> None:
    """The server starts all the same, and its leases end by their time."""
    (tmp_path / "file").write_text("")
    slots = Slots(tmp_path / "file", "db")
    assert slots.dead == []
    slots.take(W1)
    slots.release()


@pytest.mark.usefixtures("home")
def test_the_file_system_of_a_file_is_told() -> None:
    """By the mount that the open file is on, whatever its path looks like."""
    file = os.open("/proc/self/mountinfo", os.O_RDONLY)
    try:
        assert _file_system(file) == "proc"
        assert _file_system(file) not in LOCAL_FILE_SYSTEMS
    finally:
        os.close(file)


async def test_the_leases_of_the_dead_are_void_and_no_others(
    home: Path, shared: PostgresStore
) -> None:
    """They are rescued and counted like others."""
    desk = Desk(shared, ManualClock())
    lost = await desk.running()
    kept = await desk.create()
    await desk.acquire(W2)
    died(home, W1)

    await shared.take_place(Slots(home, "db"), W3)

    assert await shared.rescue(W3, 10) == 1
    found = await shared.load(lost.id)
    assert (found.status, found.rescues) == (Status.PENDING, 1)
    assert (await shared.load(kept)).status is Status.RUNNING


async def test_a_start_does_not_wait_long_for_a_row_that_a_stranger_holds(
    home: Path,
    shared: PostgresStore,
    clock: ManualClock,
    observer: RecordingObserver,
    migrated_url: str,
) -> None:
    """That lease ends by its time, and the server serves."""
    lost = await Desk(shared, ManualClock()).running()
    died(home, W1)
    async with locked(migrated_url, lost.id):
        taking = asyncio.create_task(shared.take_place(Slots(home, "db"), W3))
        await clock.advance_to("postgres.void")
        await taking
    assert observer.noted(spans.DatabaseFailed, what="void")
    assert (await shared.load(lost.id)).status is Status.RUNNING
