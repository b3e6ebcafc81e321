"""Subscribe: the request as values, and a loop that hands bytes to grpc.

The loop awaits each write, so a slow client delays its own stream and nothing else. What happens
meanwhile is merged: the next response is decided when the write is done. Leaving the context is
all the clean-up, without an await, so a cancellation may arrive anywhere.
"""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.live import Follow, Until
from chatd_server.ports.streams import Stream
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.auth import KEY_CACHE_SECONDS
from chatd_server.rpc.edge.table import Call, Context
from chatd_server.service.ids import chat_id_of

_UNTIL = {
    pb.SUBSCRIBE_UNTIL_UNSPECIFIED: Until.FOREVER,
    pb.SUBSCRIBE_UNTIL_FOREVER: Until.FOREVER,
    pb.SUBSCRIBE_UNTIL_SETTLED: Until.SETTLED,
    pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED: Until.ACTION_OR_SETTLED,
}


async def subscribe(
    backend: Backend, call: Call, request: pb.SubscribeRequest, context: Context
) -> None:
    """Follow one chat. Raises what `ports.Stream` raises, and TooManyStreams, Draining;
    Unauthenticated when the key is revoked meanwhile, before anything else is sent.
    """
    chat_id = chat_id_of(request.chat_id)
    follow = _follow(request)
    with backend.streams.follow(chat_id, call.caller.owner_id, follow) as stream:
        del request, follow  # the memory of an idle stream counts
        await write_all(backend, stream, context)


async def write_all(backend: Backend, stream: Stream, context: Context) -> None:
    """Write what a stream sends, to its end, as long as the caller's key is good."""
    now = backend.clock.now
    checked_at = now()
    while (frame := await stream.next()) is not None:
        if now() - checked_at >= KEY_CACHE_SECONDS * MICROSECONDS:
            checked_at = now()
            await backend.authenticator.still(context.invocation_metadata() or ())
        await context.write(frame)


def _follow(request: pb.SubscribeRequest) -> Follow:
    return Follow(
        resume_from=(
            convert.cursor_from(request.resume_from) if request.HasField("resume_from") else None
        ),
        until=_UNTIL[request.until],
        model_messages=not request.omit_model_messages,
        deltas=not request.HasField("include_deltas") or request.include_deltas,
        heartbeat_seconds=(
            convert.seconds_of(request.heartbeat_interval)
            if request.HasField("heartbeat_interval")
            else None
        ),
    )
