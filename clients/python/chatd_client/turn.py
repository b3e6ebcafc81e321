"""One message and its turn, picked out of a stream that tells of every turn of the chat."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from chatd.v1 import chat_pb2, event_pb2, message_pb2
from chatd_client.errors import ChatdError, Conflict, NotFound, PermissionDenied, TurnFailed

BETWEEN_ANSWERS: Final = "\n\n"
"""Stands between the answers of one turn, which tools have parted."""


class Voided(str):
    """The piece of `ChatHandle.text` that says that the answer in progress is void.

    The model's call failed or its server died, and the model is asked again. Printed, it says so in
    words; a program that can take text back looks for it with `isinstance`.
    """

    __slots__ = ()

    def __new__(cls) -> Self:
        """Make the piece; its words are always the same."""
        return super().__new__(cls, "\n[the answer broke off here, and begins again]\n")


@dataclass
class OwnTurn:
    """What becomes of the turn of one message. Feed it every event since the message was sent."""

    message_id: str
    #: Empty as long as the message is queued.
    turn_id: str = ""
    is_over: bool = False
    _failure: event_pb2.StatusChanged | None = None
    _end: event_pb2.StreamEndReason.ValueType = event_pb2.STREAM_END_REASON_UNSPECIFIED

    @property
    def is_open(self) -> bool:
        """Whether what happens now is of this turn."""
        return bool(self.turn_id) and not self.is_over

    def apply(self, event: event_pb2.ChatEvent) -> None:
        """Take one event."""
        match event.WhichOneof("event"):
            case "message_committed":
                message = event.message_committed.message
                if message.message_id == self.message_id:
                    self.turn_id, self._failure = message.turn_id, None
            case "status_changed":
                self._status_changed(event.status_changed)
            case "stream_end":
                self._end = event.stream_end.reason

    def _status_changed(self, event: event_pb2.StatusChanged) -> None:
        if self.turn_id and event.turn_id != self.turn_id:
            return
        has_failed = event.status == chat_pb2.CHAT_STATUS_ERROR
        # Before the message's own turn: the last turn that failed is what holds up the queue.
        self._failure = event if has_failed else None
        if self.turn_id:
            self.is_over = event.stop_reason != chat_pb2.STOP_REASON_UNSPECIFIED

    def failure(self) -> ChatdError | None:
        """Return why the stream has ended without an answer; None when the turn did not fail.

        A turn that waits for client tools has not failed, nor has one that was interrupted.
        """
        if self._failure is not None:
            return TurnFailed(
                self._failure.last_error, turn_id=self._failure.turn_id, is_queued=not self.turn_id
            )
        if not self.is_over and self._end == event_pb2.STREAM_END_REASON_CHAT_DELETED:
            return NotFound("the chat was deleted before the turn ended")
        if not self.is_over and self._end == event_pb2.STREAM_END_REASON_PERMISSION_CHANGED:
            return PermissionDenied("the key may not read this chat any more")
        return None

    def check_over(self) -> None:
        """Raise ChatdError if the turn failed or is not over."""
        failure = self.failure()
        if failure is not None:
            raise failure
        if not self.is_over:
            raise Conflict(
                "the chat waits for results of client tools: name its tools to create_chat or "
                "Client.chat, so that they are run"
            )


@dataclass
class ShownText:
    """The text of one turn, in pieces to show as they come."""

    _attempt_id: str = ""
    #: The attempt that summarises the context: nothing of it is an answer.
    _summary_id: str = ""
    #: What was given of the answer in progress.
    _given: str = ""
    #: Whether an earlier answer of the turn had text.
    _is_later: bool = False

    def pieces(self, event: event_pb2.ChatEvent) -> Iterator[str]:
        """Yield what one event adds."""
        match event.WhichOneof("event"):
            case "compaction_started":
                self._summary_id = event.compaction_started.attempt_id
            case "message_part" if event.message_part.attempt_id == self._summary_id:
                return
            case "message_part":
                part = event.message_part
                if part.attempt_id != self._attempt_id:
                    yield from self._begin(part.attempt_id)
                yield from self._add(part.text or part.refusal)
            case "preview_reset" | "retry_scheduled":
                yield from self._begin("")
            case "message_committed":
                yield from self._commit(event.message_committed.message)

    def _begin(self, attempt_id: str) -> Iterator[str]:
        if self._given:
            yield Voided()
        self._attempt_id, self._given = attempt_id, ""

    def _add(self, text: str) -> Iterator[str]:
        if text:
            yield text if self._given or not self._is_later else BETWEEN_ANSWERS + text
            self._given += text

    def _commit(self, message: message_pb2.Message) -> Iterator[str]:
        """Yield what no piece has brought: a stream that was cut need not have got them all."""
        if message.role != message_pb2.ROLE_ASSISTANT:
            return
        text = text_of(message)
        if message.attempt_id != self._attempt_id or not text.startswith(self._given):
            yield from self._begin(message.attempt_id)
        yield from self._add(text[len(self._given) :])
        self._is_later = self._is_later or bool(text)
        self._attempt_id, self._given = "", ""


def text_of(message: message_pb2.Message) -> str:
    """Return what a message says; of a refusal, its words."""
    return "".join(part.text.text or part.refusal.text for part in message.parts)
