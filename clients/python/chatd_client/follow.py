"""The resume loop: follows a chat across cuts of the stream.

gRPC's own retry does not cover a stream after its first message. So the loop keeps the cursor of
the last response and subscribes again from there; the server sends exactly what follows.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

import grpc

from chatd.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc, event_pb2
from chatd_client import clock
from chatd_client.connection import Endpoint
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


@dataclass
class Follower:
    """Subscribes to one chat again after each cut, until it is closed or the stream is over.

    `cursor` is where a later Follower would continue.
    """

    stub: "chat_service_pb2_grpc.ChatServiceAsyncStub"
    endpoint: Endpoint
    request: chat_service_pb2.SubscribeRequest
    on_reconnect: Callable[[Reconnect], None] | None = None
    #: Raise Unavailable after this many failures in a row; None means never.
    failures_max: int | None = None
    cursor: chat_pb2.Cursor | None = None

    async def responses(self) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Yield every response once, across cuts. Raises ChatdError when it cannot go on.

        A stream_end that is only a pause (drain, maximum duration) is not yielded.
        """
        failures = 0
        while True:
            cause = "the stream was cut"
            delay: float | None = None
            refusal: ChatdError | None = None
            try:
                async for response in self._subscribed():
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
                raise no_server(self.endpoint.address, f"{failures} times") from refusal
            await self._wait(failures, delay, cause)

    async def _subscribed(self) -> AsyncIterator[chat_service_pb2.SubscribeResponse]:
        request = chat_service_pb2.SubscribeRequest()
        request.CopyFrom(self.request)
        if self.cursor is not None:
            request.resume_from.CopyFrom(self.cursor)
        call = self.stub.Subscribe(request, metadata=self.endpoint.metadata)
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
