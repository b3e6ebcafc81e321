"""A client of WatchChats that keeps what it was sent, and checks what is promised of it."""

from collections import defaultdict
from typing import Any

import grpc

from chatd.v1 import chat_service_pb2 as pb
from tests.subscribe.scene import Edge


class Watching:
    """One stream, or several that follow one another at the last cursor."""

    def __init__(self, edge: Edge, **request: Any) -> None:
        self._edge = edge
        self._request = request
        self._call: Any = None
        self.cursor = ""
        #: What was sent, by kind; and sequences by chat, in the order of their arrival.
        self.kinds: list[str] = []
        self.sequences: dict[str, list[int]] = defaultdict(list)
        self.events: list[tuple[str, Any]] = []

    async def next(self) -> str:
        """Return the kind of the next response; "" at the end."""
        if self._call is None:
            self._begin()
        response = await self._call.read()
        if response is grpc.aio.EOF:
            return ""
        kind: str = response.event.WhichOneof("event")
        self.kinds.append(kind)
        self.cursor = response.cursor
        if response.chat_id:
            known = self.sequences[response.chat_id]
            assert not known or response.event.sequence > known[-1], "in the order of the log"
            known.append(response.event.sequence)
            self.events.append((response.chat_id, response.event))
        return kind

    async def until(self, *kinds: str) -> Any:
        """Read up to one of these kinds; return that event."""
        while (kind := await self.next()) not in kinds:
            assert kind, f"ended before {kinds}: {self.kinds}"
        return self.events[-1][1] if self.events else None

    async def until_events(self, count: int) -> None:
        """Read until so many events of chats were sent."""
        while len(self.events) < count:
            assert await self.next(), f"ended after {len(self.events)} events"

    def cut(self) -> None:
        """Cut the connection; the next read goes on at the last cursor."""
        if self._call is not None:
            self._call.cancel()
        self._call = None

    def _begin(self) -> None:
        request = pb.WatchChatsRequest(cursor=self.cursor, **self._request)
        self._call = self._edge.stub.WatchChats(request, metadata=self._edge.auth)
