"""Responses that would be too large."""

from collections.abc import Awaitable, Callable, MutableSequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from chatd_server.domain.chat import ChatState
from chatd_server.domain.limits import PAGE_BYTES_MAX, RESPONSE_BYTES_MAX
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import ChatPage
from chatd_server.rpc.convert.slices import in_slices
from chatd_server.rpc.edge.paging import size_of

Wire = TypeVar("Wire", bound=Message)


async def fill(
    page: MutableSequence[Wire],
    read: Callable[[int], Awaitable[ChatPage]],
    page_size: int,
    shown: Callable[[ChatState], Wire | None],
    clock: Clock,
) -> str | None:
    """Fill a page with at most about PAGE_BYTES_MAX; return the key of the next page.

    One chat may hold 768 KiB of prompt and schemas. A page that turns out too large is read again
    with only the chats that fit, at least one.
    """
    limit = size_of(page_size)
    while True:
        found = await read(limit)
        size = fit = 0
        async for wire in in_slices(found.chats, shown, clock):
            size += 0 if wire is None else wire.ByteSize()
            if size > PAGE_BYTES_MAX and fit:
                break
            fit += 1
            if wire is not None:
                # One by one: protobuf copies it, and a copy of the whole page would block.
                page.append(wire)
        if fit == len(found.chats):
            return found.next_key
        limit = fit
        del page[:]


def drop_parts_if_too_large(response: Message, sent: Any) -> None:
    """Drop the parts of a message that the caller sent, when the response is too large with them.

    The largest chat and the largest message do not fit into RESPONSE_BYTES_MAX together.
    """
    if response.ByteSize() > RESPONSE_BYTES_MAX:
        sent.ClearField("parts")
