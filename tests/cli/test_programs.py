"""The servers of the tests themselves."""

from pathlib import Path

import grpc

from chatd.v1 import admin_service_pb2 as admin
from chatd.v1 import admin_service_pb2_grpc
from tests.cli.programs import SECONDS_MAX, serving
from tests.kit.server import bearer

PIPE_BYTES = 64 * 1024
"""Bytes that fit in a pipe that nobody reads."""


def test_a_server_that_logs_a_lot_is_not_held_up(tmp_path: Path) -> None:
    """Its log is a file, and the test can read all of it."""
    with (
        serving(tmp_path, "--log-level", "debug") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        key = (tmp_path / "root.key").read_text(encoding="utf-8").strip()
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        while sum(map(len, server.logged())) <= 2 * PIPE_BYTES:
            for _ in range(100):
                request = admin.GetServerInfoRequest()
                stub.GetServerInfo(request, metadata=bearer(key), timeout=SECONDS_MAX)
        assert server.stop() == 0
        assert "server.stopped" in server.logged()[-1]
