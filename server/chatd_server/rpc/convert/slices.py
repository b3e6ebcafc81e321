"""Long lists of values to messages of the contract, in slices of the event loop."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from google.protobuf.message import Message

from chatd_server.ports.clock import Clock

SLICE_BYTES = 16 * 1024
"""Encoded bytes after which other tasks run. The smallest parts have about 7 bytes and take 4 us
each, so a slice of them takes 10 ms."""

It = TypeVar("It")
Wire = TypeVar("Wire", bound=Message | None)


async def in_slices(
    items: Iterable[It], shown: Callable[[It], Wire], clock: Clock
) -> AsyncIterator[Wire]:
    """Yield the message of each item; the items of one slice come without a wait."""
    size = 0
    for item in items:
        if size > SLICE_BYTES:
            size = 0
            await clock.sleep(0, "rpc.slice")
        wire = shown(item)
        size += 0 if wire is None else wire.ByteSize()
        yield wire
