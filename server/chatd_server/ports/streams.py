"""Where subscribers follow chats, and how what they are sent becomes bytes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from chatd_server.domain.chat import ChatState
from chatd_server.domain.event import Cursor, LoggedEvent
from chatd_server.domain.ids import AttemptId, ChatId, MessageId, OwnerId
from chatd_server.domain.live import Follow, Piece, StreamEndReason
from chatd_server.domain.message import Message


class Stream(Protocol):
    """What one subscriber is sent, as bytes of `FrameCodec`, in order."""

    def begin_with(self, message_id: MessageId, after: int, *, until_action: bool) -> None:
        """Before the first `next`: begin after this sequence, and end when the turn of this
        message is over (or it leaves the queue without one), with `until_action` also while it
        waits for its client.
        """

    async def next(self) -> bytes | None:
        """Wait for the next response; None at the end. Raises ChatNotFound, CursorExpired and
        CursorAhead (only before the first response, or when retention overtook the reader),
        DatabaseUnavailable.
        """


class HeadWatch(Protocol):
    """Whether a chat's log may have moved since the watch began, or since the last `moved`."""

    async def moved(self, seconds: float) -> bool:
        """Wait at most so long; say whether the log is worth reading again."""


class Streams(Protocol):
    """Where subscribers follow chats. Leaving a context never changes a chat."""

    def follow(
        self, chat_id: ChatId, owner_id: OwnerId, follow: Follow
    ) -> AbstractContextManager[Stream]:
        """Attach a subscriber; raises TooManyStreams, Draining."""

    def watch(self, chat_id: ChatId) -> AbstractContextManager[HeadWatch]:
        """Watch the head of a log. Enter it before the log is read."""


class FrameCodec(Protocol):
    """How what a stream sends becomes one response. `cursor` is the position behind it."""

    def event(self, chat_id: ChatId, event: LoggedEvent, cursor: Cursor) -> bytes:
        """A durable event."""

    def piece(self, attempt_id: AttemptId, piece: Piece, cursor: Cursor) -> bytes:
        """A piece of the open attempt."""

    def snapshot(self, state: ChatState, cursor: Cursor) -> bytes:
        """The chat as it is."""

    def snapshot_messages(
        self, chat_id: ChatId, messages: Sequence[Message], cursor: Cursor
    ) -> bytes:
        """Messages of the snapshot."""

    def preview_reset(self, attempt_id: AttemptId, cursor: Cursor) -> bytes:
        """Forget the pieces of this attempt."""

    def heartbeat(self, head_sequence: int, cursor: Cursor) -> bytes:
        """The stream is alive."""

    def caught_up(self, cursor: Cursor) -> bytes:
        """From here on it is live."""

    def stream_end(self, reason: StreamEndReason, cursor: Cursor) -> bytes:
        """The stream ends on purpose."""
