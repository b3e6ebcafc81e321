"""Calls whose request has not arrived yet: they hold memory, and the caller is not known yet.

A request that is late ends its call. The call is ended and not the read: grpc does not survive a
cancelled read, and ends it by itself with the call.
"""

from collections import Counter
from typing import Any

import grpc

from chatd_server.domain.ids import MICROSECONDS, Instant
from chatd_server.domain.limits import (
    REQUEST_WAIT_SECONDS_MAX,
    WAITING_CALLS_MAX,
    WAITING_CALLS_PER_CONNECTION_MAX,
)
from chatd_server.domain.refusal import TooManyStreams
from chatd_server.ports.clock import Clock
from chatd_server.rpc.edge import errors

LOOK_SECONDS = 1.0
"""How often late calls are looked for. A call may end this much after its limit."""


class Arrivals:
    """Waits for requests: how many calls may wait at once, and how long, is bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Oldest first: when the request is due, and on which connection.
        self._waiting: dict[Any, tuple[Instant, str]] = {}
        self._per_connection: Counter[str] = Counter()

    async def request(self, context: Any) -> bytes:
        """Return the first message of a call, undecoded.

        Raises TooManyStreams, MalformedRequest when the client ends without one, and grpc's
        AbortError when the request is late; a handler does not catch that.
        """
        peer = context.peer()
        if self._per_connection[peer] >= WAITING_CALLS_PER_CONNECTION_MAX:
            raise TooManyStreams(
                f"{WAITING_CALLS_PER_CONNECTION_MAX} calls of this connection wait for their "
                "requests; send these first"
            )
        if len(self._waiting) >= WAITING_CALLS_MAX:
            raise TooManyStreams(
                f"{WAITING_CALLS_MAX} calls of this server wait for their requests; try again later"
            )
        due = self._clock.now() + REQUEST_WAIT_SECONDS_MAX * MICROSECONDS
        self._waiting[context] = (due, peer)
        self._per_connection[peer] += 1
        try:
            raw: Any = await context.read()
        finally:
            self._forget(context)
        if raw is grpc.aio.EOF:
            raise errors.MalformedRequest("the call ended without a request")
        message: bytes = raw
        return message

    def _forget(self, context: Any) -> None:
        _, peer = self._waiting.pop(context)
        left = self._per_connection[peer] - 1
        if left:
            self._per_connection[peer] = left
        else:
            del self._per_connection[peer]

    async def sweep(self) -> None:
        """End late calls, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS, "rpc.arrivals")
            now = self._clock.now()
            late = [it for it, (due, _) in self._waiting.items() if due <= now]
            for context in late:
                # The request may have arrived, or the client left, while others were ended.
                if context in self._waiting and not context.done():
                    await _end(context)


async def _end(context: Any) -> None:
    error = errors.MalformedRequest(f"no request came within {REQUEST_WAIT_SECONDS_MAX} seconds")
    try:
        await errors.abort(context, error)
    except grpc.aio.BaseError:
        # `abort` raises to end a handler, and this is not one; or the client has left.
        return
