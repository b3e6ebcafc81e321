"""Subscribe: the request as values, and a loop that hands bytes to grpc.

The loop awaits each write, so a slow client holds up its own stream and nothing else; what
happens meanwhile is merged, because the next response is decided when the write is done. All
clean-up is leaving a context, without an await: it does not matter how a cancellation arrives.
"""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.live import Follow, Until
from chatd_server.ports.clock import Clock
from chatd_server.ports.streams import Streams
from chatd_server.rpc import convert
from chatd_server.rpc.edge.auth import KEY_CACHE_SECONDS, Authenticator
from chatd_server.rpc.edge.dispatch import Call, Context
from chatd_server.service.authority import chat_id_of


class Subscribe:
    """Answers ChatService.Subscribe."""

    def __init__(self, streams: Streams, authenticator: Authenticator, clock: Clock) -> None:
        self._streams = streams
        self._authenticator = authenticator
        self._clock = clock
        self._until = {
            pb.SUBSCRIBE_UNTIL_UNSPECIFIED: Until.FOREVER,
            pb.SUBSCRIBE_UNTIL_FOREVER: Until.FOREVER,
            pb.SUBSCRIBE_UNTIL_SETTLED: Until.SETTLED,
            pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED: Until.ACTION_OR_SETTLED,
        }

    async def __call__(self, call: Call, request: pb.SubscribeRequest, context: Context) -> None:
        """Follow one chat. Raises what `ports.Stream` raises, and TooManyStreams, Draining;
        Unauthenticated when the key is revoked meanwhile, before anything else is sent.
        """
        chat_id = chat_id_of(request.chat_id)
        looked_at = self._clock.now()
        with self._streams.follow(chat_id, call.caller.owner_id, self._follow(request)) as stream:
            while (frame := await stream.next()) is not None:
                if self._clock.now() - looked_at >= KEY_CACHE_SECONDS * MICROSECONDS:
                    looked_at = self._clock.now()
                    await self._authenticator.still(context.invocation_metadata() or ())
                await context.write(frame)

    def _follow(self, request: pb.SubscribeRequest) -> Follow:
        return Follow(
            resume_from=(
                convert.cursor_from(request.resume_from)
                if request.HasField("resume_from")
                else None
            ),
            until=self._until[request.until],
            deltas=not request.HasField("include_deltas") or request.include_deltas,
            heartbeat_seconds=(
                convert.seconds_of(request.heartbeat_interval)
                if request.HasField("heartbeat_interval")
                else None
            ),
        )
