"""WatchChats: the request as values, and a loop that writes what the watcher gives."""

from typing import NoReturn

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import event_pb2
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.live import StreamEndReason
from chatd_server.domain.refusal import InvalidRequest, Violation
from chatd_server.ports.watch import Place, Watch, Watched, WatchedEvent, WatchFrom, WatchSignal
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.auth import KEY_CACHE_SECONDS
from chatd_server.rpc.edge.paging import ListTokens
from chatd_server.rpc.edge.table import Call, Context


async def watch_chats(
    backend: Backend, call: Call, request: pb.WatchChatsRequest, context: Context
) -> None:
    """Follow the chats of the caller. Raises what `ports.Watches` raises; ChatNotFound for the
    family of another owner; Unauthenticated when the key is revoked meanwhile.
    """
    owner_id = call.caller.owner_id
    root_id = None
    if request.root_chat_id:
        root_id = (await backend.chats.get(owner_id, request.root_chat_id)).id
    filters = (request.root_chat_id, sorted(request.labels.items()))
    cursors = backend.tokens.of(owner_id, call.name, *filters)
    watch = Watch(
        resume_from=_resume_from(cursors, request.cursor),
        root_id=root_id,
        labels=frozenset(request.labels.items()),
        heartbeat_seconds=(
            convert.seconds_of(request.heartbeat_interval)
            if request.HasField("heartbeat_interval")
            else None
        ),
    )
    now = backend.clock.now
    checked_at = now()
    with backend.watches.watch(owner_id, watch) as watcher:
        is_over = False
        while not is_over:
            found = await watcher.next()
            if now() - checked_at >= KEY_CACHE_SECONDS * MICROSECONDS:
                checked_at = now()
                await backend.authenticator.still(context.invocation_metadata() or ())
            is_over = isinstance(found, StreamEndReason)
            response = _response(found)
            at = found.logged.at if isinstance(found, WatchedEvent) else now()
            response.cursor = cursors.token(".".join(map(str, (*watcher.place, at))))
            await context.write(response.SerializeToString())


def _response(found: Watched) -> pb.WatchChatsResponse:
    if isinstance(found, WatchedEvent):
        event = convert.event(found.chat_id, found.logged)
        return pb.WatchChatsResponse(chat_id=found.chat_id, event=event)
    if isinstance(found, StreamEndReason):
        return pb.WatchChatsResponse(
            event=event_pb2.ChatEvent(stream_end=convert.stream_end(found))
        )
    if found is WatchSignal.CAUGHT_UP:
        caught_up = event_pb2.CaughtUp()
        return pb.WatchChatsResponse(event=event_pb2.ChatEvent(caught_up=caught_up))
    heartbeat = event_pb2.Heartbeat()
    return pb.WatchChatsResponse(event=event_pb2.ChatEvent(heartbeat=heartbeat))


def _resume_from(cursors: ListTokens, cursor: str) -> WatchFrom | None:
    try:
        key = cursors.key(cursor, numbers=len(Place._fields) + 1)
    except InvalidRequest:
        _refuse()
    if key is None:
        return None
    txid, chat, sequence, at = map(int, key.split("."))
    return WatchFrom(Place(txid, chat, sequence), at)


def _refuse() -> NoReturn:
    raise InvalidRequest(
        Violation(
            "cursor",
            "not a cursor of this watch: keep root_chat_id and labels, or list the chats and watch "
            "without a cursor",
        )
    )
