"""The resume loop: follows a chat, or all of them, across cuts of the stream.

gRPC's own retry does not cover a stream after its first message. So the loop keeps the cursor of
the last response and begins again from there; the server sends exactly what follows.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc

from chatd.v1 import event_pb2
from chatd_client import clock
from chatd_client.errors import ChatdError, from_rpc, may_try_again, no_server

_GOES_ON = frozenset(
    {
        event_pb2.STREAM_END_REASON_DRAINING,
        event_pb2.STREAM_END_REASON_MAX_DURATION,
    }
)


@dataclass(frozen=True)
class Reconnect:
    """A stream that is about to be resumed. `failures` counts the failures in a row."""

    failures: int
    delay_seconds: float
    cause: str


class _Response(Protocol):
    """A response of a stream that can be resumed."""

    @property
    def event(self) -> event_pb2.ChatEvent: ...

    @property
    def cursor(self) -> Any: ...


_R = TypeVar("_R", bound=_Response)
_C = TypeVar("_C")


@dataclass
class Follower(Generic[_R, _C]):
    """Begins a stream again after each cut, until it is closed or the stream is over.

    `cursor` is where a later Follower would continue.
    """

    #: Begins the stream after a cursor; None means without one.
    begin: Callable[[_C | None], Any]
    #: Of the server, for an error.
    address: str
    on_reconnect: Callable[[Reconnect], None] | None = None
    #: Raise Unavailable after this many failures in a row; None means never.
    failures_max: int | None = None
    cursor: _C | None = None

    async def responses(self) -> AsyncGenerator[_R, None]:
        """Yield every response once, across cuts. Raises ChatdError when it cannot go on.

        A stream_end that is only a pause (drain, maximum duration) is not yielded.
        """
        failures = 0
        while True:
            cause = "the stream was cut"
            delay: float | None = None
            refusal: ChatdError | None = None
            try:
                async for response in self._begun():
                    failures = 0
                    self.cursor = response.cursor
                    if response.event.WhichOneof("event") != "stream_end":
                        yield response
                        continue
                    if response.event.stream_end.reason not in _GOES_ON:
                        yield response
                        return
                    cause = "the server ended the stream for now"
                    delay = response.event.stream_end.retry_delay.ToTimedelta().total_seconds()
            except grpc.aio.AioRpcError as error:
                refusal = from_rpc(error)
                if not may_try_again(error):
                    raise refusal from error
                cause, delay = str(refusal), refusal.retry_seconds
            failures += 1
            if self.failures_max is not None and failures > self.failures_max:
                if refusal is not None and refusal.reason:
                    raise refusal
                raise no_server(self.address, f"{failures} times") from refusal
            await self._wait(failures, delay, cause)

    async def _begun(self) -> AsyncIterator[_R]:
        call = self.begin(self.cursor)
        try:
            async for response in call:
                yield response
        finally:
            call.cancel()

    async def _wait(self, failures: int, delay: float | None, cause: str) -> None:
        seconds = delay if delay is not None else clock.backoff_seconds(failures)
        if self.on_reconnect is not None:
            self.on_reconnect(Reconnect(failures, seconds, cause))
        await clock.pause(seconds)
