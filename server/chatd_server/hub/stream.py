"""Drives one reader: carries out its decisions, and returns responses as bytes."""

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import Cursor, LoggedEvent
from chatd_server.domain.ids import MICROSECONDS, ChatId, MessageId, OwnerId
from chatd_server.domain.limits import KIB
from chatd_server.domain.live import Follow, StreamEndReason
from chatd_server.domain.message import Visibility
from chatd_server.domain.refusal import ChatNotFound
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.decide import Next, Pieces, Step
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.own_turn import OwnTurn
from chatd_server.hub.position import Phase
from chatd_server.hub.reader import Reader
from chatd_server.hub.responses import NewestPiece
from chatd_server.observe import Observer, spans
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import EventPage, Store
from chatd_server.ports.streams import FrameCodec

READ_EVENTS_MAX = 64
"""Events per read of the log; with the next limit it bounds the memory of a slow reader."""
READ_BYTES_MAX = 256 * KIB
"""Bytes per read of the log; a single event may be larger."""
SILENCE_SECONDS = 1
"""An event found this long after its commit was never announced: a hint was lost, or there is a
defect. Younger events may still be announced."""


class Broadcast:
    """What all streams share: the store, the codec, and the counters."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        codec: FrameCodec,
        observer: Observer,
        *,
        reads_at_heartbeat: bool,
    ) -> None:
        self.store = store
        self.reads_at_heartbeat = reads_at_heartbeat
        self.clock = clock
        self.codec = codec
        self._observer = observer
        #: Events and pieces serialised.
        self.serialisations = 0
        #: Heartbeats that found an event that was never announced.
        self.silences = 0

    async def refresh(self, chat: LiveChat) -> None:
        """Read the log after the known head, once for all readers that are up to date."""
        after = chat.refresh_begins()
        try:
            while chat.refreshed(await self.read(chat, after)):
                after = chat.head
        except ChatNotFound:
            chat.refresh_ends(is_deleted=True)
        except BaseException:
            chat.refresh_ends(failed=True)
            raise
        else:
            chat.refresh_ends()

    async def read(self, chat: LiveChat, after: int) -> EventPage:
        """Read a page of the log."""
        return await self.store.events(
            chat.chat_id, after=after, limit=READ_EVENTS_MAX, bytes_max=READ_BYTES_MAX
        )

    def look_for_silence(self, chat: LiveChat, known: int) -> None:
        """Count a silence: streams owed an event for a while and were not woken."""
        owed = chat.event(known + 1)
        if owed is not None and self.clock.now() - owed.at >= SILENCE_SECONDS * MICROSECONDS:
            self.silences += 1
            self._observer.note(spans.StreamWasSilent(chat=chat.chat_id, sequence=owed.sequence))


class ReaderStream:
    """One subscriber's stream of responses; `ports.Stream`."""

    __slots__ = (
        "_broadcast",
        "_chat_id",
        "_follow",
        "_is_opening",
        "_is_over",
        "_omits_model_messages",
        "_owner_id",
        "_shown",
        "_shows",
        "reader",
    )

    def __init__(
        self, broadcast: Broadcast, reader: Reader, owner_id: OwnerId, follow: Follow
    ) -> None:
        self.reader = reader
        self._broadcast = broadcast
        self._chat_id: ChatId = reader.chat.chat_id
        self._owner_id = owner_id
        self._follow: Follow | None = follow
        #: The state that the snapshot shows, until all its messages are sent, and the position of
        #: the last one sent. Each page is read after the one before was sent.
        self._shows: ChatState | None = None
        self._shown = 0
        self._omits_model_messages = not follow.model_messages
        self._is_opening = True
        self._is_over = False

    def begin_with(self, message_id: MessageId, after: int, *, until_action: bool) -> None:
        """Begin after this sequence, and end with the turn of this message."""
        assert self._follow is not None, "the stream has begun"
        self._follow = msgspec.structs.replace(self._follow, resume_from=Cursor(after))
        self.reader.own_turn = OwnTurn(message_id, until_action=until_action)

    async def next(self) -> bytes | None:
        """Return the next response; None at the end."""
        if self._is_over:
            return None
        reader, chat = self.reader, self.reader.chat
        frame = await self._open() if self._is_opening else None
        while frame is None:
            step = reader.decide()
            # The first two cases happen per token, so they need no coroutine.
            if type(step) is Pieces:
                frame = self._piece(step.overlay, step.offset)
            elif step is Next.WAIT and not reader.is_due:
                await reader.changed(chat)
            else:
                frame = await self._do(step)
        reader.sent(self._broadcast.clock.now())
        return frame

    async def _do(self, step: Step) -> bytes | None:
        """Carry out any step but a piece; return its response, if any."""
        reader, codec = self.reader, self._broadcast.codec
        match step:
            case LoggedEvent():
                return self._event(step)
            case StreamEndReason():
                self._is_over = True
                return codec.stream_end(step, reader.cursor)
            case Next.WAIT:
                return await self._heartbeat()
            case Next.READ:
                await self._read()
            case Next.REFRESH:
                await self._broadcast.refresh(reader.chat)
            case Next.RESET:
                attempt_id = reader.sent_reset()
                return codec.preview_reset(attempt_id, reader.cursor)
            case Next.CAUGHT_UP:
                reader.sent_caught_up()
                return codec.caught_up(reader.cursor)
        return None

    # --- where it begins -----------------------------------------------------------------------

    async def _open(self) -> bytes | None:
        """Find the start position, then return the snapshot, if any."""
        follow, self._follow = self._follow, None
        frame = None if follow is None else await self._begin(follow)
        if frame is None:
            frame = await self._snapshot_page()
        self._is_opening = frame is not None
        return frame

    async def _begin(self, follow: Follow) -> bytes | None:
        cursor, reader, broadcast = follow.resume_from, self.reader, self._broadcast
        state = await broadcast.store.load(self._chat_id, self._owner_id)
        if cursor is None or cursor.snapshot_unfinished:
            reader.begin_with_snapshot(follow, state)
            self._shows = state
            return broadcast.codec.snapshot(state, reader.cursor)
        # Also at the head: only the store knows which cursors are in range.
        page = await broadcast.read(reader.chat, cursor.sequence)
        reader.begin_at(cursor, follow, state, page)
        return None

    async def _snapshot_page(self) -> bytes | None:
        """Return the next messages of the snapshot; None at its end."""
        while self._shows is not None:
            messages, more = await self._broadcast.store.messages_as_of(
                self._shows, after_position=self._shown
            )
            if not more:
                self._shows = None
            if messages:
                self._shown = messages[-1].position
            if self._omits_model_messages:
                messages = [it for it in messages if it.visibility is not Visibility.MODEL]
            if messages:
                codec = self._broadcast.codec
                return codec.snapshot_messages(self._chat_id, messages, self.reader.cursor)
        return None

    # --- what it reads -------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read the log for this reader, which needs events older than the tail."""
        reader = self.reader
        try:
            reader.take(await self._broadcast.read(reader.chat, reader.cursor.sequence))
        except ChatNotFound:
            reader.finish(StreamEndReason.CHAT_DELETED)

    # --- what it sends -------------------------------------------------------------------------

    def _event(self, event: LoggedEvent) -> bytes:
        reader, chat = self.reader, self.reader.chat
        chat.observe(event)
        reader.sent_event(event)
        cursor = reader.cursor
        frame = chat.responses.event(cursor)
        if frame is None:
            frame = self._broadcast.codec.event(self._chat_id, event, cursor)
            self._broadcast.serialisations += 1
            if chat.attached > 1:
                chat.responses.keep_event(cursor, frame)
        return frame

    def _piece(self, overlay: Overlay, offset: int) -> bytes:
        """Return the next piece: the same bytes for all readers at the same position."""
        reader, responses = self.reader, self.reader.chat.responses
        at, newest = reader.at, responses.piece
        if newest is not None and (after := newest.moved(at, overlay, offset)) is not None:
            reader.at = after
            return newest.frame
        piece = overlay.piece(offset)
        assert piece is not None, "decide returns a piece only where there is one"
        reader.sent_piece(overlay, piece.end)
        frame = self._broadcast.codec.piece(overlay.attempt_id, piece, reader.cursor)
        self._broadcast.serialisations += 1
        if at.phase is Phase.LIVE and reader.chat.attached > 1:
            responses.piece = NewestPiece(at, reader.at, overlay, overlay.size, offset, frame)
        return frame

    async def _heartbeat(self) -> bytes | None:
        """Check the log, in case a hint was lost; return None if there is something to send."""
        reader, chat = self.reader, self.reader.chat
        reader.is_due = False
        if self._broadcast.reads_at_heartbeat and not chat.is_refreshing:
            known = chat.head
            await self._broadcast.refresh(chat)
            self._broadcast.look_for_silence(chat, known)
        if reader.decide() is not Next.WAIT:
            return None
        return self._broadcast.codec.heartbeat(chat.head, reader.cursor)
