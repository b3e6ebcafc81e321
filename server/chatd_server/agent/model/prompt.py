"""The context of a run as the model gets it.

One list, appended in place: each message is examined once, when it is added, so the two hundredth
step costs as much as the tenth. Each adapter translates it to its vendor's format.
"""

from collections.abc import Iterable

import msgspec

from chatd_server.agent.turn.next_action import is_empty
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Message,
    Role,
    ToolCall,
    ToolResult,
    Visibility,
)


class Prompt:
    """The messages that the model sees. Left out: messages for the user only, empty answers, and
    provider calls without a result.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def extend(self, messages: Iterable[Message]) -> None:
        """Append messages that were committed later."""
        for message in messages:
            if message.visibility is not Visibility.USER:
                self._add(message)

    @property
    def asked(self) -> dict[str, ToolCallId]:
        """Open provider calls of the paused answers at the end, by the provider's ids."""
        return {
            call.vendor_id: call.id
            for index in reversed(self._paused())
            for call in self.messages[index].calls
            if call.executor is Executor.PROVIDER
        }

    def response_id_of(self, model: str) -> str:
        """Return the vendor's id of the newest answer, if this model produced it."""
        for message in reversed(self.messages):
            if message.role is Role.ASSISTANT:
                return message.response_id if message.model == model else ""
        return ""

    def _add(self, message: Message) -> None:
        if message.role is not Role.ASSISTANT:
            self._settle(frozenset())
            self.messages.append(message)
        elif is_empty(message):
            self._settle(frozenset())
        elif message.finish_reason is FinishReason.PAUSED:
            # Sent back unchanged: the result of its last call may arrive with the next answer.
            self.messages.append(message)
        else:
            answered = _answered(message)
            self._settle(answered)
            paired = _paired(message, answered)
            if paired.parts:
                self.messages.append(paired)

    def _settle(self, answered: frozenset[ToolCallId]) -> None:
        """Remove calls that are still unanswered from the paused answers."""
        paused = self._paused()
        for index in paused:
            answered |= _answered(self.messages[index])
        for index in paused:
            self.messages[index] = _paired(self.messages[index], answered)
        # Emptied answers are the last of the block or all of it, so the rest stays in order.
        for index in paused:
            if not self.messages[index].parts:
                del self.messages[index]

    def _paused(self) -> list[int]:
        """Return the indexes of the paused answers at the end, last one first."""
        found: list[int] = []
        for index in range(len(self.messages) - 1, -1, -1):
            message = self.messages[index]
            if message.finish_reason is not FinishReason.PAUSED:
                break
            found.append(index)
        return found


def _answered(message: Message) -> frozenset[ToolCallId]:
    return frozenset(
        part.call_id
        for part in message.parts
        if isinstance(part, ToolResult) and part.executor is Executor.PROVIDER
    )


def _paired(message: Message, answered: frozenset[ToolCallId]) -> Message:
    """Drop provider calls without a result; return the same object if there are none."""
    parts = tuple(
        part
        for part in message.parts
        if not (
            isinstance(part, ToolCall)
            and part.executor is Executor.PROVIDER
            and part.id not in answered
        )
    )
    if len(parts) == len(message.parts):
        return message
    return msgspec.structs.replace(message, parts=parts)
