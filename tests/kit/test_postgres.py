"""The tests' database is real, fresh for each test, and removed afterwards."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.kit.postgres import Postgres, PostgresUnavailableError, running_postgres
from tests.kit.require import missing

HOLDER = """
from tests.kit.postgres import running_postgres
with running_postgres() as server:
    print(server.port, flush=True)
    input()
"""


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_gets_an_empty_durable_database(postgres_url: str, turn: int) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute("CREATE TABLE mine (turn int)")
        await connection.execute("INSERT INTO mine VALUES ($1)", turn)
        assert await connection.fetchval("SELECT count(*) FROM mine") == 1
        assert await connection.fetchval("SHOW fsync") == "on"
    finally:
        await connection.close()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_the_server_is_gone_when_its_tests_are(
    postgres: Postgres | PostgresUnavailableError, name: str
) -> None:
    if isinstance(postgres, PostgresUnavailableError):
        missing("postgres", str(postgres))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        (keeper,) = psutil.Process(holder.pid).children()
        socket.create_connection(("127.0.0.1", port)).close()
        os.killpg(holder.pid, signal.Signals[name])
    _, alive = psutil.wait_procs([keeper], timeout=20)
    assert not alive
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_wheel_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATD_TEST_POSTGRES", "wheel")
    try:
        with running_postgres() as server:
            server.drop_database(server.create_database())
    except PostgresUnavailableError as unavailable:
        missing("postgres-wheel", str(unavailable))
