"""Bytes that no client library sends: the log stays what it is, lines of JSON without secrets."""

import json
import struct
from pathlib import Path

import pytest

from chatd.v1 import chat_service_pb2 as pb
from tests.cli.programs import Serving, serving
from tests.kit.http2 import RawConnection, data, frame, grpc_message

GOAWAY, INTERNAL_ERROR = 7, 2
PATH = b"/chatd.v1.ChatService/ListChats"
FORGED = b'\n{"event":"root_key.revoked","level":"warning"}\n\xff\xfe\x00\n'


def say_goodbye(server: Serving, _: str) -> None:
    """End a connection with a message of our own, before any call and without a key."""
    connection = RawConnection(server.address)
    connection.receive()
    connection.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, INTERNAL_ERROR) + FORGED))
    connection.leave()
    call_with(server, [])


def call_with(server: Serving, more: list[tuple[bytes, bytes]], path: bytes = PATH) -> None:
    """Make a call with headers of our own, and wait for what the server says."""
    connection = RawConnection(server.address)
    number, opening = connection.headers(path, more=more)
    body = grpc_message(pb.ListChatsRequest().SerializeToString())
    connection.send(opening + data(number, body))
    connection.receive()
    connection.leave()


def odd_key(server: Serving, key: str) -> None:
    """A good key, then a byte that is not UTF-8."""
    call_with(server, [(b"authorization", b"Bearer " + key.encode() + b"\xe9")])


def odd_header(server: Serving, _: str) -> None:
    """A header of no meaning that is not UTF-8."""
    call_with(server, [(b"x-odd", b"\xff\xfe")])


def odd_path(server: Serving, _: str) -> None:
    """A method that is not UTF-8."""
    call_with(server, [], b"/\xff\xfe")


def odd_timeout(server: Serving, _: str) -> None:
    """A malformed deadline."""
    call_with(server, [(b"grpc-timeout", b"xyz")])


def odd_encoding(server: Serving, _: str) -> None:
    """An unknown compression."""
    call_with(server, [(b"grpc-encoding", b"nope\nnope")])


@pytest.mark.parametrize(
    "hostile", [say_goodbye, odd_key, odd_header, odd_path, odd_timeout, odd_encoding]
)
def test_nobody_writes_into_the_log_what_he_likes(tmp_path: Path, hostile: object) -> None:
    """Every line is JSON of the server; no line is forged or has a key or a traceback."""
    assert callable(hostile)
    with serving(tmp_path) as server:
        key = (tmp_path / "root.key").read_text().strip()
        for _ in range(3):
            hostile(server, key)
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.logged()]
    assert not {"root_key.revoked", "library.log"} & {line["event"] for line in lines}
    text = json.dumps(lines)
    assert key not in text
    assert "Traceback" not in text
