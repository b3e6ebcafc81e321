"""A bounded wait for new events of a chat, for callers that read pages."""

from chatd_server.hub.chat import LiveChat, Waiter
from chatd_server.ports.clock import Clock

WATCH_TAG = "hub.watch"
"""The tag by which tests find this wait on their clock."""


class LogWatch(Waiter):
    """Waits for a log to change; `ports.HeadWatch`."""

    __slots__ = ("_chat", "_clock", "_moves")

    def __init__(self, chat: LiveChat, clock: Clock) -> None:
        super().__init__()
        self._chat = chat
        self._clock = clock
        self._moves = chat.moves

    async def moved(self, seconds: float) -> bool:
        """Wait up to `seconds` for a reason to read the log again; return whether there is one."""
        try:
            async with self._clock.timeout(seconds, WATCH_TAG):
                while self._chat.moves == self._moves:
                    await self.changed(self._chat)
        except TimeoutError:
            return False
        finally:
            self._chat.no_longer_waiting(self)
        self._moves = self._chat.moves
        return True
