"""The context of a run as the model gets it.

One list, appended in place: a message is looked at once, when it is added, so the two hundredth
step costs what the tenth does. How a vendor wants it written is its adapter's business.
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
    """The messages that the model sees: without those for the user alone, empty answers, and
    calls of the provider's that got no result.
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
        """Calls of the provider's, by its ids, that paused answers at the end left open."""
        return {
            call.vendor_id: call.id
            for index in reversed(self._paused())
            for call in self.messages[index].calls
            if call.executor is Executor.PROVIDER
        }

    def response_id_of(self, model: str) -> str:
        """Return the vendor's id of the newest answer, if this model gave it."""
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
            # It goes back as it is: the result of its last call may come with the next answer.
            self.messages.append(message)
        else:
            answered = _answered(message)
            self._settle(answered)
            paired = _paired(message, answered)
            if paired.parts:
                self.messages.append(paired)

    def _settle(self, answered: frozenset[ToolCallId]) -> None:
        """Take the calls out of paused answers that nothing has answered by now."""
        paused = self._paused()
        for index in paused:
            answered |= _answered(self.messages[index])
        for index in paused:
            self.messages[index] = _paired(self.messages[index], answered)
        # Emptied ones are the last of their block or all of it, so the order of the rest holds.
        for index in paused:
            if not self.messages[index].parts:
                del self.messages[index]

    def _paused(self) -> list[int]:
        """Return where the paused answers at the end stand, the last one first."""
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
    """Return the very same message unless a call of the provider's has to go."""
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
