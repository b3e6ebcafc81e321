"""The hub: where workers show answers in progress and subscribers follow chats.

One per process. It keeps something of a chat only while somebody follows it or an attempt is
open. Writers never wait for readers; readers are positions (`hub.reader`).
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from chatd_server.domain.chat import Status
from chatd_server.domain.event import CompactionSource
from chatd_server.domain.ids import (
    MICROSECONDS,
    AttemptId,
    ChatId,
    Instant,
    OwnerId,
    ToolCallId,
)
from chatd_server.domain.limits import STREAMS_PER_OWNER_MAX, SUBSCRIBERS_PER_CHAT_MAX
from chatd_server.domain.live import Follow, PieceKind, StreamEndReason
from chatd_server.domain.message import Executor, Part, ToolResult
from chatd_server.domain.refusal import Draining, TooManyStreams
from chatd_server.hub.chat import LiveChat, Waiter
from chatd_server.hub.overlay import Overlay, OverlayStatus
from chatd_server.hub.pulse import Pulse
from chatd_server.hub.reader import Reader
from chatd_server.hub.stream import Broadcast, ReaderStream
from chatd_server.ports import Applied, Clock, FrameCodec, Store

WATCH_TAG = "hub.watch"
"""How a test finds a bounded wait for the head of a log on its clock."""


class HubSettings(msgspec.Struct, frozen=True):
    """Spans and limits of streams."""

    #: Pause between heartbeats unless the subscriber asks for another.
    heartbeat_seconds: float = 15.0
    #: Look at the log with each heartbeat, in case a hint of another process was lost. Not needed
    #: where all commits are of this process.
    reads_at_heartbeat: bool = True
    #: A stream older than this ends with MAX_DURATION, so that load moves to new replicas.
    stream_seconds_max: float = 3600.0
    #: Part of that span that is left to chance, so that not all streams end at once.
    stream_jitter: float = 0.1
    subscribers_per_chat_max: int = SUBSCRIBERS_PER_CHAT_MAX
    streams_per_owner_max: int = STREAMS_PER_OWNER_MAX


class Hub:
    """Implements `ports.Live`, `ports.CommitListener` and `ports.Streams`."""

    def __init__(
        self, store: Store, clock: Clock, codec: FrameCodec, settings: HubSettings
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._chats: dict[ChatId, LiveChat] = {}
        self._readers: set[Reader] = set()
        self._streams: dict[OwnerId, int] = {}
        self._broadcast = Broadcast(
            store, clock, codec, reads_at_heartbeat=settings.reads_at_heartbeat
        )
        self._pulse = Pulse(clock)
        self._draining = False

    # --- what happens --------------------------------------------------------------------------

    def committed(self, applied: Applied) -> None:
        """Take a commit of this process."""
        chat = self._chats.get(applied.state.id)
        if chat is None:
            return
        state = applied.state
        chat.revision = max(chat.revision, state.revision)
        if chat.attached:
            chat.add(applied.events)
            if state.deleted:
                chat.delete()
        else:
            for event in applied.events:
                chat.observe(event)
            self._drop_if_idle(chat)

    def hinted(self, chat_id: ChatId, revision: int, status: Status) -> None:  # noqa: ARG002  a hint carries no meaning; only the log does
        """Take a hint that a chat changed, from any process; `Wake.listen` calls this."""
        chat = self._chats.get(chat_id)
        if chat is not None and revision > chat.revision:
            chat.revision = revision
            chat.mark_stale()

    def hints_missed(self) -> None:
        """Hints may have been lost: every chat that somebody follows looks at its log."""
        for chat in self._chats.values():
            if chat.attached:
                chat.mark_stale()

    def open(
        self, chat_id: ChatId, attempt_id: AttemptId, base_sequence: int
    ) -> "AttemptOverlayWriter":
        """Open an attempt; one that is still open is void."""
        chat = self._chats.get(chat_id)
        if chat is None:
            chat = self._chats[chat_id] = LiveChat(chat_id)
        if chat.overlay is not None:
            chat.close(chat.overlay, OverlayStatus.VOID)
        overlay = chat.overlay = Overlay(attempt_id, base_sequence)
        if chat.head and base_sequence > chat.head:
            chat.mark_stale()
        return AttemptOverlayWriter(overlay, chat, self._drop_if_idle)

    # --- who follows ---------------------------------------------------------------------------

    @contextmanager
    def follow(self, chat_id: ChatId, owner_id: OwnerId, follow: Follow) -> Iterator[ReaderStream]:
        """Attach a subscriber until the context is left."""
        self._admit(chat_id, owner_id)
        now = self._clock.now()
        seconds = follow.heartbeat_seconds or self._settings.heartbeat_seconds
        chat = self._attach(chat_id)
        ends_at = now + self._lifetime()
        reader = Reader(chat, follow, now, round(seconds * MICROSECONDS), ends_at)
        self._readers.add(reader)
        self._streams[owner_id] = self._streams.get(owner_id, 0) + 1
        self._pulse.add(reader)
        try:
            yield ReaderStream(self._broadcast, reader, owner_id, follow)
        finally:
            reader.close()
            self._pulse.removed()
            self._readers.discard(reader)
            self._streams[owner_id] -= 1
            if not self._streams[owner_id]:
                del self._streams[owner_id]
            self._detach(chat)

    @contextmanager
    def watch(self, chat_id: ChatId) -> Iterator["LogWatch"]:
        """Watch a log until the context is left."""
        chat = self._attach(chat_id)
        try:
            yield LogWatch(chat, self._clock)
        finally:
            self._detach(chat)

    def drain(self) -> None:
        """End every stream with DRAINING, and refuse new ones."""
        self._draining = True
        for reader in self._readers:
            reader.end = StreamEndReason.DRAINING
            reader.wake()

    # --- what tests and metrics count ----------------------------------------------------------

    @property
    def stream_count(self) -> int:
        """Open streams."""
        return len(self._readers)

    @property
    def chat_count(self) -> int:
        """Chats of which this process keeps something."""
        return len(self._chats)

    @property
    def serialisations(self) -> int:
        """Events and pieces turned into bytes since the start."""
        return self._broadcast.serialisations

    # --- inside --------------------------------------------------------------------------------

    def _admit(self, chat_id: ChatId, owner_id: OwnerId) -> None:
        if self._draining:
            raise Draining(
                "the server is shutting down; subscribe again, it or another will answer"
            )
        per_owner = self._settings.streams_per_owner_max
        if self._streams.get(owner_id, 0) >= per_owner:
            raise TooManyStreams(f"{per_owner} streams are open with this key; close some")
        chat = self._chats.get(chat_id)
        per_chat = self._settings.subscribers_per_chat_max
        if chat is not None and chat.attached >= per_chat:
            raise TooManyStreams(f"{per_chat} streams follow this chat; close some")

    def _lifetime(self) -> Instant:
        """Return how long a new stream may live, in microseconds."""
        whole = round(self._settings.stream_seconds_max * MICROSECONDS)
        spread = round(whole * self._settings.stream_jitter)
        return whole - (secrets.randbelow(spread) if spread else 0)

    def _attach(self, chat_id: ChatId) -> LiveChat:
        chat = self._chats.get(chat_id)
        if chat is None:
            chat = self._chats[chat_id] = LiveChat(chat_id)
        chat.attached += 1
        return chat

    def _detach(self, chat: LiveChat) -> None:
        chat.attached -= 1
        if chat.attached:
            return
        # Nobody is told of commits from now on, so what is known of the log is out of date.
        chat.forget()
        chat.head = 0
        chat.stale = False
        self._drop_if_idle(chat)

    def _drop_if_idle(self, chat: LiveChat) -> None:
        if not chat.attached and chat.overlay is None:
            self._chats.pop(chat.chat_id, None)


class AttemptOverlayWriter:
    """Writes one attempt; `ports.AttemptWriter`. Does nothing once the attempt is closed."""

    __slots__ = ("_chat", "_closed", "_overlay")

    def __init__(
        self, overlay: Overlay, chat: LiveChat, closed: Callable[[LiveChat], None]
    ) -> None:
        self._overlay = overlay
        self._chat = chat
        self._closed = closed

    def text(self, part: int, text: str) -> None:
        """Append text to a text part."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, PieceKind.TEXT, text)
            self._chat.wake()

    def reasoning(self, part: int, text: str) -> None:
        """Append text to a reasoning part."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, PieceKind.REASONING, text)
            self._chat.wake()

    def refusal(self, part: int, text: str) -> None:
        """Append text to a refusal part."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, PieceKind.REFUSAL, text)
            self._chat.wake()

    def call(
        self, part: int, call_id: ToolCallId, name: str, executor: Executor, arguments: str
    ) -> None:
        """Append arguments to a tool call; empty arguments announce it."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_call(part, call_id, name, executor, arguments)
            self._chat.wake()

    def whole(self, part: int, value: Part) -> None:
        """Add a part that came at once."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_whole(part, value)
            self._chat.wake()

    def tool_started(self, call_id: ToolCallId, name: str) -> None:
        """Say that a tool of ours began."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_tool_started(call_id, name)
            self._chat.wake()

    def tool_finished(self, result: ToolResult) -> None:
        """Show the result of a tool of ours."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_tool_finished(result)
            self._chat.wake()

    def compaction_started(self, source: CompactionSource) -> None:
        """Say that a compaction began."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_compaction_started(source)
            self._chat.wake()

    def abandon(self) -> None:
        """Void everything shown."""
        self._chat.close(self._overlay, OverlayStatus.VOID)
        self._closed(self._chat)


class LogWatch(Waiter):
    """Whether a log has moved; `ports.HeadWatch`."""

    __slots__ = ("_chat", "_clock", "_moves")

    def __init__(self, chat: LiveChat, clock: Clock) -> None:
        super().__init__()
        self._chat = chat
        self._clock = clock
        self._moves = chat.moves

    async def moved(self, seconds: float) -> bool:
        """Wait at most so long for a reason to read the log again."""
        try:
            async with self._clock.timeout(seconds, WATCH_TAG):
                while self._chat.moves == self._moves:
                    await self.wait(self._chat)
        except TimeoutError:
            return False
        self._moves = self._chat.moves
        return True
