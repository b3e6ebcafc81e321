"""Two commands that use a new home at the same time."""

import asyncio
import logging
import subprocess
from pathlib import Path

import pytest

from chatd_server.app.databases import migrate_database, open_keys
from chatd_server.app.sqlite import MIGRATION_PAUSE_SECONDS, MIGRATION_TRIES_MAX
from chatd_server.config.load import load
from chatd_server.store.shared.errors import DatabaseInUse
from chatd_server.store.sqlite.files import FileLock
from tests.cli.programs import PROGRAM, SECONDS_MAX, environment, serving
from tests.kit.clock import ManualClock

WAIT = "database.migrates"


def test_keys_are_created_while_a_server_starts_for_the_first_time(tmp_path: Path) -> None:
    """The second waits for the first; each key works, and the server serves."""
    creates = [
        subprocess.Popen(
            [*PROGRAM, "keys", "create", name],
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    with serving(tmp_path):
        for process in creates:
            output, errors = process.communicate(timeout=SECONDS_MAX)
            assert process.returncode == 0, errors
            assert output.startswith("chatd_")


def test_a_wait_of_more_than_a_second_is_said_on_standard_error(tmp_path: Path) -> None:
    """The message is clear, and the command continues after the wait."""
    lock = FileLock(tmp_path / "chatd.db")
    process = subprocess.Popen(
        [*PROGRAM, "keys", "create", "bot"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("another process (process ")
    assert line.endswith("Trying again for a few seconds\n")
    lock.release()
    output, errors = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, errors
    assert output.startswith("chatd_")


async def test_a_command_waits_while_another_process_migrates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It continues after the other ends, and reports a wait of more than a second."""
    config = load({"home": str(tmp_path)}, {}).config
    clock = ManualClock()
    lock = FileLock(config.sqlite_path)
    opening = asyncio.ensure_future(open_keys(config, clock, may_create=True))
    await clock.sleeping(WAIT)
    with caplog.at_level(logging.WARNING):
        await clock.advance(0.9)
        assert caplog.messages == []
        await clock.advance(0.2)
    assert "migrates the database" in caplog.text
    assert "server" not in caplog.messages[0].partition("migrates")[0]
    lock.release()
    await clock.advance(MIGRATION_PAUSE_SECONDS)
    keys, close = await opening
    assert await keys.list_keys() == []
    await close()


async def test_a_migration_that_does_not_end_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """The message names a migration and not a server."""
    config = load({"home": str(tmp_path)}, {}).config
    clock = ManualClock()
    lock = FileLock(config.sqlite_path)
    migrating = asyncio.ensure_future(migrate_database(config, clock))
    await clock.sleeping(WAIT)
    await clock.advance(MIGRATION_PAUSE_SECONDS * (MIGRATION_TRIES_MAX + 1))
    with pytest.raises(DatabaseInUse, match=r"another process \(process \d+\) migrates"):
        await migrating
    lock.release()


async def test_a_server_is_not_waited_for(tmp_path: Path) -> None:
    """It may run for months."""
    config = load({"home": str(tmp_path)}, {}).config
    lock = FileLock(config.sqlite_path)
    lock.serves()
    with pytest.raises(DatabaseInUse, match=r"another server \(process \d+\) uses the database"):
        await migrate_database(config, ManualClock())
    lock.release()
