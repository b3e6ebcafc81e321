"""The turn of one message, for a stream that ends with it."""

from chatd_server.domain.event import LoggedEvent, MessageCommitted, QueueChanged, StatusChanged
from chatd_server.domain.ids import MessageId, TurnId


class OwnTurn:
    """Learns from the log which turn a message began, and when that turn is over."""

    __slots__ = ("_message_id", "_turn_id", "is_over", "until_action")

    def __init__(self, message_id: MessageId, *, until_action: bool) -> None:
        self._message_id = message_id
        self._turn_id = TurnId("")
        #: Whether the stream also ends while this turn waits for its client.
        self.until_action = until_action
        #: The turn ended, or the message left the queue without one.
        self.is_over = False

    @property
    def has_begun(self) -> bool:
        """Whether the message is in the history."""
        return bool(self._turn_id)

    def observe(self, logged: LoggedEvent) -> None:
        """Take the next event of the log after the message was sent."""
        event = logged.event
        if isinstance(event, MessageCommitted):
            message = logged.message
            if message is not None and message.id == self._message_id:
                self._turn_id = message.turn_id
        elif isinstance(event, QueueChanged):
            # A transition that takes the message out of the queue to begin its turn commits it
            # first.
            is_queued = any(entry.id == self._message_id for entry in event.entries)
            self.is_over = self.is_over or not (is_queued or self.has_begun)
        elif isinstance(event, StatusChanged) and event.stop_reason is not None:
            self.is_over = self.is_over or (self.has_begun and event.turn_id == self._turn_id)
