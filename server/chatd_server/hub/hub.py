"""The hub: workers show answers in progress here, and subscribers follow chats.

One per process. It holds data about a chat only while the chat is followed or an attempt is open.
Writers never wait for readers; readers are positions (`hub.reader`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import MICROSECONDS, AttemptId, ChatId, OwnerId
from chatd_server.domain.live import Follow, StreamEndReason
from chatd_server.domain.refusal import Draining, TooManyStreams
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.pulse import Pulse
from chatd_server.hub.reader import Reader
from chatd_server.hub.settings import HubSettings
from chatd_server.hub.stream import Broadcast, ReaderStream
from chatd_server.hub.watch import LogWatch
from chatd_server.hub.writer import AttemptOverlayWriter
from chatd_server.observe import Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, Store
from chatd_server.ports.streams import FrameCodec


class Hub:
    """Implements `ports.Live`, `ports.CommitListener` and `ports.Streams`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        codec: FrameCodec,
        settings: HubSettings,
        observer: Observer,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._chats: dict[ChatId, LiveChat] = {}
        self._readers: set[Reader] = set()
        self._streams: dict[OwnerId, int] = {}
        self._broadcast = Broadcast(
            store, clock, codec, observer, reads_at_heartbeat=settings.reads_at_heartbeat
        )
        self._pulse = Pulse(clock)
        self._draining = False

    # --- what happens --------------------------------------------------------------------------

    def committed(self, applied: Applied) -> None:
        """Process a commit of this process."""
        chat = self._chats.get(applied.state.id)
        if chat is not None:
            chat.committed(applied)

    def hinted(self, chat_id: ChatId, revision: int, status: Status) -> None:  # noqa: ARG002  a hint carries no meaning; only the log does
        """Process a hint from any process that a chat changed; `Wake.listen` calls this."""
        chat = self._chats.get(chat_id)
        if chat is not None:
            chat.hinted(revision)

    def hints_missed(self) -> None:
        """Hints may have been lost: let every followed chat read its log."""
        for chat in self._chats.values():
            if chat.attached:
                chat.mark_stale()

    def open(
        self, chat_id: ChatId, attempt_id: AttemptId, base_sequence: int
    ) -> AttemptOverlayWriter:
        """Open an attempt; voids one that is still open."""
        chat = self._chat(chat_id)
        return AttemptOverlayWriter(chat.open_attempt(attempt_id, base_sequence), chat)

    # --- who follows ---------------------------------------------------------------------------

    def follow(self, chat_id: ChatId, owner_id: OwnerId, follow: Follow) -> "Following":
        """Attach a subscriber until the context exits."""
        return Following(self, chat_id, owner_id, follow)

    def attach(self, chat_id: ChatId, owner_id: OwnerId, follow: Follow) -> ReaderStream:
        """Attach a subscriber until `detach`; raises TooManyStreams, Draining."""
        self._admit(chat_id, owner_id)
        now = self._clock.now()
        seconds = follow.heartbeat_seconds or self._settings.heartbeat_seconds
        ends_at = now + self._settings.lifetime()
        chat = self._chat(chat_id)
        reader = Reader(chat, now, round(seconds * MICROSECONDS), ends_at)
        chat.attach()
        self._readers.add(reader)
        self._streams[owner_id] = self._streams.get(owner_id, 0) + 1
        self._pulse.add(reader)
        return ReaderStream(self._broadcast, reader, owner_id, follow)

    def detach(self, reader: Reader, owner_id: OwnerId) -> None:
        """Forget a subscriber."""
        reader.close()
        self._pulse.removed()
        self._readers.discard(reader)
        self._streams[owner_id] -= 1
        if not self._streams[owner_id]:
            del self._streams[owner_id]
        reader.chat.detach()

    @contextmanager
    def watch(self, chat_id: ChatId) -> Iterator[LogWatch]:
        """Watch a log until the context exits."""
        chat = self._chat(chat_id)
        chat.attach()
        try:
            yield LogWatch(chat, self._clock)
        finally:
            chat.detach()

    def drain(self) -> None:
        """End every stream with DRAINING, and refuse new ones."""
        self._draining = True
        for reader in self._readers:
            reader.finish(StreamEndReason.DRAINING)

    # --- what tests and metrics count ----------------------------------------------------------

    @property
    def stream_count(self) -> int:
        """Number of open streams."""
        return len(self._readers)

    @property
    def chat_count(self) -> int:
        """Number of chats that this process holds data about."""
        return len(self._chats)

    @property
    def serialisations(self) -> int:
        """Events and pieces serialised since the start."""
        return self._broadcast.serialisations

    @property
    def silences(self) -> int:
        """Heartbeats since the start that found an event that was never announced."""
        return self._broadcast.silences

    def owed(self) -> int:
        """Count the streams that wait although there is something to send, for tests. More than
        zero is a defect of the hub.
        """
        return sum(
            reader.is_owed or self._chats.get(reader.chat.chat_id) is not reader.chat
            for reader in self._readers
        )

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

    def _chat(self, chat_id: ChatId) -> LiveChat:
        chat = self._chats.get(chat_id)
        if chat is None:
            chat = self._chats[chat_id] = LiveChat(chat_id, self._forget)
        return chat

    def _forget(self, chat: LiveChat) -> None:
        """Drop an idle chat, unless a newer object has replaced it."""
        if self._chats.get(chat.chat_id) is chat:
            del self._chats[chat.chat_id]


class Following:
    """A subscriber while it follows. Not a generator: an idle stream would keep its frame."""

    __slots__ = ("_begins", "_hub", "_owner_id", "_reader")

    def __init__(self, hub: Hub, chat_id: ChatId, owner_id: OwnerId, follow: Follow) -> None:
        self._hub = hub
        self._owner_id = owner_id
        self._begins: tuple[ChatId, Follow] | None = (chat_id, follow)
        self._reader: Reader | None = None

    def __enter__(self) -> ReaderStream:
        assert self._begins is not None, "a subscriber follows once"
        (chat_id, follow), self._begins = self._begins, None
        stream = self._hub.attach(chat_id, self._owner_id, follow)
        self._reader = stream.reader
        return stream

    def __exit__(self, *error: object) -> None:
        assert self._reader is not None
        self._hub.detach(self._reader, self._owner_id)
