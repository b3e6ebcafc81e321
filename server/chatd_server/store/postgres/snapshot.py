"""`ports.ChatSnapshot` on PostgreSQL."""

from collections.abc import AsyncGenerator, Sequence

from chatd_server.domain.chat import ChatState
from chatd_server.domain.limits import RESPONSE_BYTES_MAX
from chatd_server.domain.message import Message
from chatd_server.ports import Clock
from chatd_server.store.postgres import reads
from chatd_server.store.postgres.links import Links


class PostgresSnapshot:
    """A chat as of the revision of its state."""

    def __init__(self, state: ChatState, readers: Links, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._readers = readers

    @property
    def state(self) -> ChatState:
        """The execution state, queue contents included."""
        return self._state

    async def pages(self) -> AsyncGenerator[Sequence[Message], None]:
        """Yield the messages in order, each page below half of RESPONSE_BYTES_MAX or of one."""
        after, more = 0, True
        while more:
            async with self._readers.use() as link:
                page, more = await reads.messages_as_of(
                    link, self._clock, self._state, after, RESPONSE_BYTES_MAX // 2
                )
            if page:
                after = page[-1].position
                yield page
