"""grpc's wake-ups of the event loop are read all at once."""

import asyncio
import socket
from contextlib import closing
from typing import Any

import pytest

from chatd_server.rpc.edge.grpc_server import new_server
from chatd_server.rpc.edge.wakes import read_at_once


async def test_the_reader_of_wakes_reads_all_of_them_when_it_asks_for_one() -> None:
    """A wake-up that stays in the socket would cost a turn of the loop that finds nothing."""
    loop = asyncio.get_running_loop()
    wakes, waking = socket.socketpair()
    with closing(wakes), closing(waking):
        wakes.setblocking(False)
        with read_at_once(loop):
            loop.add_reader(wakes, lambda: None)
        loop.remove_reader(wakes)
        waking.send(b"111")
        assert wakes.recv(1) == b"111"
        with pytest.raises(BlockingIOError):
            wakes.recv(1)


async def test_a_server_reads_the_wakes_of_grpc_at_once_when_it_is_made() -> None:
    """The socket that grpc gives to the loop is the one whose wake-ups are read at once."""
    loop = asyncio.get_running_loop()
    given: list[Any] = []
    add_reader = loop.add_reader

    def noted(wakes: Any, *handler: Any) -> None:
        given.append(wakes)
        add_reader(wakes, *handler)

    loop.add_reader = noted  # type: ignore[assignment,method-assign]
    server = new_server(())
    with read_at_once(loop):
        reference, other = socket.socketpair()
        with closing(reference), closing(other):
            loop.add_reader(reference, lambda: None)
            loop.remove_reader(reference)
            assert [type(it) for it in given] == [type(reference)] * 2
            assert type(reference) is not socket.socket
    await server.stop(None)
