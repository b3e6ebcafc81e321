"""Picks one message and its turn out of a stream with all turns of the chat."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from chatd.v1 import chat_pb2, event_pb2, message_pb2
from chatd_client.errors import ChatdError, Conflict, NotFound, PermissionDenied, TurnFailed

BETWEEN_ANSWERS: Final = "\n\n"
"""Separates the answers of one turn."""


class Voided(str):
    """The piece of `ChatHandle.text` that voids the text of the answer in progress.

    The call of the model failed or its server died, and the model is called again. Its text says
    so; a program that can remove text finds it with `isinstance`.
    """

    __slots__ = ()

    def __new__(cls) -> Self:
        return super().__new__(cls, "\n[the answer broke off here, and begins again]\n")


@dataclass
class OwnTurn:
    """The turn of one message. Feed it every event since the message was sent."""

    message_id: str
    #: Empty while the message is queued.
    turn_id: str = ""
    is_over: bool = False
    _failure: event_pb2.StatusChanged | None = None
    _end: event_pb2.StreamEndReason.ValueType = event_pb2.STREAM_END_REASON_UNSPECIFIED

    @property
    def is_open(self) -> bool:
        return bool(self.turn_id) and not self.is_over

    def apply(self, event: event_pb2.ChatEvent) -> None:
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
        # Before the message's own turn: a failed turn keeps the message queued.
        self._failure = event if has_failed else None
        if self.turn_id:
            self.is_over = event.stop_reason != chat_pb2.STOP_REASON_UNSPECIFIED

    def failure(self) -> ChatdError | None:
        """Return why the stream ended without an answer; None if the turn did not fail.

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
                "the chat waits for results of client tools: give the tools to create_chat or "
                "Client.chat, so that they run"
            )


@dataclass
class ShownText:
    """The text of one turn, in pieces to show as they come."""

    _attempt_id: str = ""
    #: The attempt that summarises the context: nothing of it is an answer.
    _summary_id: str = ""
    #: The text of the answer in progress so far.
    _given: str = ""
    #: Whether an earlier answer of the turn had text.
    _is_later: bool = False

    def pieces(self, event: event_pb2.ChatEvent) -> Iterator[str]:
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
        """Yield the rest of the text: a stream that was cut may have missed pieces."""
        if message.role != message_pb2.ROLE_ASSISTANT:
            return
        text = text_of(message)
        if message.attempt_id != self._attempt_id or not text.startswith(self._given):
            yield from self._begin(message.attempt_id)
        yield from self._add(text[len(self._given) :])
        self._is_later = self._is_later or bool(text)
        self._attempt_id, self._given = "", ""


def text_of(message: message_pb2.Message) -> str:
    """Return the text of a message, or of its refusal."""
    return "".join(part.text.text or part.refusal.text for part in message.parts)
