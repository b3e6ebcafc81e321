"""A bounded wait for the log of a chat to move, for callers that read it in pages."""

from chatd_server.hub.chat import LiveChat, Waiter
from chatd_server.ports.clock import Clock

WATCH_TAG = "hub.watch"
"""How a test finds the wait on its clock."""


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
