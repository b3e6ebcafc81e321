"""What a failure of the embedded database is called, and what is said to do about it."""

import sqlite3

import pytest

from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.store.sqlite.failures import translated


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMMAP"])
def test_a_full_disk_is_said_wherever_it_is_met(name: str) -> None:
    """A start on a full disk fails at the index of the log, as a disk that fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    told = translated(error)
    assert isinstance(told, DatabaseUnavailable)
    assert "full" in str(told)
    assert "make room" in str(told)
