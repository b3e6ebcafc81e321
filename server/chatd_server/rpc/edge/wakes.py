"""grpc's wake-ups of the event loop, read all at once: a speed trick on private parts of grpc.

For each operation that ends, say a write, a thread of grpc queues it and sends one byte to the
loop. Its handler then carries out the whole queue but reads one byte, so each byte that is left
costs a turn of the loop that finds nothing: with 100 streams, as many turns as writes. Here the
handler reads all bytes that are there. It reads before it looks at the queue, and a byte is sent
after its operation is queued, so none is lost.

The price: grpc's socket gets another class. grpc gives it to the loop once, when it first uses the
loop; if that was earlier, or if it is something else than a socket, grpc works as it always does.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WAKES_MAX = 4096
"""Wake-ups read at once; more are left for the next turn."""


class _Wakes(socket.socket):
    """The socket that grpc reads its wake-ups from. A socket's class can be replaced only by one
    without fields.
    """

    __slots__ = ()

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read all wake-ups; the reader asks for one and drops what it gets."""
        return super().recv(max(size, WAKES_MAX), flags)


@contextmanager
def read_at_once(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let grpc read its wake-ups at once if it begins to use the loop in this context."""
    add_reader = loop.add_reader

    def added(wakes: Any, handler: Callable[..., object], *arguments: Any) -> None:
        if type(wakes) is socket.socket:
            wakes.__class__ = _Wakes
        add_reader(wakes, handler, *arguments)

    loop.add_reader = added  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        loop.add_reader = add_reader  # type: ignore[method-assign]
