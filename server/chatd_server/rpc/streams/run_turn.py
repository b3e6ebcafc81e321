"""RunTurn: SendMessage, then a stream from just before the message to the end of its turn.

The stream is attached before the message is sent: a caller who may open no more streams, or whose
server is leaving, has sent nothing.
"""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import MessageId
from chatd_server.domain.live import Follow
from chatd_server.ports.streams import Stream
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.table import Call, Context
from chatd_server.rpc.streams.subscribe import write_all
from chatd_server.service.ids import chat_id_of


async def run_turn(
    backend: Backend, call: Call, request: pb.RunTurnRequest, context: Context
) -> None:
    """Send a message and follow its turn. Raises what sending and `subscribe` raise."""
    chat_id = chat_id_of(request.chat_id)
    follow = Follow(deltas=not request.HasField("include_deltas") or request.include_deltas)
    with backend.streams.follow(chat_id, call.caller.owner_id, follow) as stream:
        await _send(backend, call, request, stream)
        del request, follow  # the memory of an idle stream counts
        await write_all(backend, stream, context)


async def _send(backend: Backend, call: Call, request: pb.RunTurnRequest, stream: Stream) -> None:
    applied = await backend.messages.send(
        call.caller.owner_id,
        request.chat_id,
        convert.user_parts_from(request.message),
        options=convert.turn_options_from(request.options),
        busy=convert.busy_from(request.busy_behavior),
        request=call.request_key(request),
    )
    reply = applied.reply
    sent = reply.message or reply.queued
    message_id = MessageId("") if sent is None else sent.id
    stream.begin_with(message_id, reply.after, until_action=request.until_action)
