"""Drives one reader: does what it decides, and gives out responses as bytes."""

from collections import deque
from contextlib import aclosing

from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import ChatId, OwnerId
from chatd_server.domain.limits import KIB, MIB, PAGE_SIZE_MAX
from chatd_server.domain.live import Follow, Piece, StreamEndReason
from chatd_server.domain.refusal import ChatNotFound
from chatd_server.hub.chat import LiveChat, NewestPiece
from chatd_server.hub.reader import Next, Reader, Step
from chatd_server.ports import ChatSnapshot, Clock, FrameCodec, Store

READ_EVENTS_MAX = 64
"""Events read from the log at once; with the next limit it bounds what a slow reader holds."""
READ_BYTES_MAX = 256 * KIB
"""Bytes read from the log at once (or one event)."""
SNAPSHOT_AHEAD_BYTES_MAX = 2 * MIB
"""A snapshot is read this far before anything of it is sent, so that no read transaction waits
for a client. Longer ones go on without it: messages from after the transaction are left out, and
what was removed meanwhile is removed again by the events that follow."""


class Broadcast:
    """What all streams share: the store, the codec, and the count of serialisations."""

    def __init__(
        self, store: Store, clock: Clock, codec: FrameCodec, *, reads_at_heartbeat: bool
    ) -> None:
        self.store = store
        self.reads_at_heartbeat = reads_at_heartbeat
        self.clock = clock
        self.codec = codec
        #: Events and pieces that were turned into bytes.
        self.serialisations = 0

    async def refresh(self, chat: LiveChat) -> None:
        """Read what the log has behind what is known, once for everybody who is level."""
        chat.refreshing, chat.stale = True, False
        known = chat.head
        try:
            behind = True
            while behind:
                head = chat.head
                page = await self.store.events(
                    chat.chat_id, after=head, limit=READ_EVENTS_MAX, bytes_max=READ_BYTES_MAX
                )
                chat.add(page.events)
                behind = head < chat.head < page.head_sequence
            if chat.head == known:
                # What changed is not in the log: a deletion of an idle chat, for one.
                chat.deleted = (await self.store.load(chat.chat_id)).deleted
        except ChatNotFound:
            chat.deleted = True
        except BaseException:
            chat.stale = True
            raise
        finally:
            chat.refreshing = False
            chat.wake()


class ReaderStream:
    """One subscriber's stream of responses; `ports.Stream`."""

    __slots__ = (
        "_broadcast",
        "_chat_id",
        "_follow",
        "_is_opening",
        "_over",
        "_owner_id",
        "_ready",
        "_rest",
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
        #: Responses of the snapshot that are not sent yet.
        self._ready: deque[bytes] = deque()
        #: Position and sequence from which and up to which the snapshot still has to be read.
        self._rest: tuple[int, int] | None = None
        self._is_opening = True
        self._over = False

    async def next(self) -> bytes | None:
        """Return the next response; None at the end."""
        if self._over:
            return None
        reader, chat = self.reader, self.reader.chat
        frame = await self._open() if self._is_opening else None
        while frame is None:
            if not reader.follows_open_attempt:
                frame = await self._do(reader.decide())
            elif (frame := self._newest_piece()) is None:
                if reader.beat or chat.deleted:
                    frame = await self._do(reader.decide())
                else:
                    await reader.wait(chat)
        reader.sent_at = self._broadcast.clock.now()
        reader.beat = False
        return frame

    async def _do(self, step: Step) -> bytes | None:
        """Do what was decided; return a response if that gave one."""
        reader = self.reader
        if isinstance(step, Piece):
            return self._newest_piece()
        if isinstance(step, LoggedEvent):
            return self._event(step)
        if isinstance(step, StreamEndReason):
            self._over = True
            return self._broadcast.codec.stream_end(step, reader.cursor)
        match step:
            case Next.WAIT:
                await reader.wait(reader.chat)
            case Next.READ:
                await self._read()
            case Next.REFRESH:
                await self._broadcast.refresh(reader.chat)
            case Next.RESET:
                attempt_id = reader.sent_reset()
                return self._broadcast.codec.preview_reset(attempt_id, reader.cursor)
            case Next.CAUGHT_UP:
                reader.sent_caught_up()
                return self._broadcast.codec.caught_up(reader.cursor)
            case Next.HEARTBEAT:
                return await self._heartbeat()
        return None

    # --- where it begins -----------------------------------------------------------------------

    async def _open(self) -> bytes | None:
        """Find out where to begin, then give out the snapshot, if there is one."""
        follow, self._follow = self._follow, None
        if follow is not None:
            await self._begin(follow)
        await self._read_snapshot()
        if self._ready:
            return self._ready.popleft()
        self._is_opening = False
        return None

    async def _begin(self, follow: Follow) -> None:
        cursor = follow.resume_from
        store = self._broadcast.store
        if cursor is None or cursor.snapshot_unfinished:
            async with store.snapshot(self._chat_id) as snapshot:
                await self._begin_with(snapshot)
            return
        state = await store.load(self._chat_id, self._owner_id)
        # Also at the head: it is the store that knows which cursors are in range.
        page = await store.events(
            self._chat_id,
            after=cursor.sequence,
            limit=READ_EVENTS_MAX,
            bytes_max=READ_BYTES_MAX,
        )
        self.reader.begin_at(cursor, state)
        self.reader.take(page)

    async def _begin_with(self, snapshot: ChatSnapshot) -> None:
        state, reader, codec = snapshot.state, self.reader, self._broadcast.codec
        if state.owner_id != self._owner_id or state.deleted:
            raise ChatNotFound(self._chat_id)
        reader.begin_with_snapshot(state)
        cursor = reader.cursor
        self._ready.append(codec.snapshot(state, cursor))
        size = len(self._ready[0])
        async with aclosing(snapshot.pages()) as pages:
            async for page in pages:
                self._ready.append(codec.snapshot_messages(self._chat_id, page, cursor))
                size += len(self._ready[-1])
                if size > SNAPSHOT_AHEAD_BYTES_MAX:
                    self._rest = (page[-1].position, state.head_sequence)
                    break

    async def _read_snapshot(self) -> None:
        """Read on, one page, when what was read ahead is sent."""
        while self._rest is not None and not self._ready:
            position, head = self._rest
            messages, more = await self._broadcast.store.messages(
                self._chat_id,
                after_position=position,
                limit=PAGE_SIZE_MAX,
                bytes_max=READ_BYTES_MAX,
            )
            self._rest = (messages[-1].position, head) if more else None
            then = [message for message in messages if message.sequence <= head]
            if then:
                codec, cursor = self._broadcast.codec, self.reader.cursor
                self._ready.append(codec.snapshot_messages(self._chat_id, then, cursor))

    # --- what it reads -------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read the log for this reader, which is too far behind for the tail."""
        reader = self.reader
        try:
            page = await self._broadcast.store.events(
                self._chat_id,
                after=reader.sequence,
                limit=READ_EVENTS_MAX,
                bytes_max=READ_BYTES_MAX,
            )
        except ChatNotFound:
            reader.end = StreamEndReason.CHAT_DELETED
        else:
            reader.take(page)

    # --- what it sends -------------------------------------------------------------------------

    def _event(self, event: LoggedEvent) -> bytes:
        reader = self.reader
        reader.chat.observe(event)
        reader.sent_event(event)
        cursor = reader.cursor
        frame = reader.chat.frames.get(cursor)
        if frame is None:
            frame = self._broadcast.codec.event(self._chat_id, event, cursor)
            self._broadcast.serialisations += 1
            reader.chat.keep_frame(cursor, frame)
        return frame

    def _newest_piece(self) -> bytes | None:
        """Return what the attempt has for this reader: the same bytes for all who stand at the
        same place. None when it has nothing yet.
        """
        reader = self.reader
        overlay, chat = reader.overlay, reader.chat
        assert overlay is not None
        size, offset = overlay.size, reader.offset
        if offset >= size:
            return None
        newest = chat.newest
        if (
            newest is not None
            and newest.overlay is overlay
            and newest.piece.start == offset
            and newest.size == size
            and newest.sequence == reader.sequence
            and reader.caught_up
        ):
            reader.sent_piece(newest.piece)
            return newest.frame
        piece = overlay.piece(offset)
        assert piece is not None
        attempt_id = reader.sent_piece(piece)
        frame = self._broadcast.codec.piece(attempt_id, piece, reader.cursor)
        self._broadcast.serialisations += 1
        if reader.caught_up and chat.attached > 1:
            chat.newest = NewestPiece(overlay, size, reader.sequence, piece, frame)
        return frame

    async def _heartbeat(self) -> bytes | None:
        """Look at the log, in case a hint was lost; None when there is something to send."""
        reader, chat = self.reader, self.reader.chat
        reader.beat = False
        if self._broadcast.reads_at_heartbeat and not chat.refreshing:
            await self._broadcast.refresh(chat)
        if chat.head > reader.sequence or chat.deleted:
            return None
        return self._broadcast.codec.heartbeat(chat.head, reader.cursor)
