"""A store whose every read waits for the explorer: once before it reads, once before it returns.

Its result is right at the moment of the read, as with a database; its transitions are those of the
real `advance`.
"""

from collections.abc import Generator, Sequence
from itertools import count
from typing import Any

from chatd_server.domain.chain import Chain, decide
from chatd_server.domain.chat import ChatConfig, ChatState
from chatd_server.domain.command import Command, Create
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import AttemptId, ChatId, Instant, OwnerId, WorkerId
from chatd_server.domain.message import Message, Text
from chatd_server.domain.refusal import ChatNotFound, CursorAhead, CursorExpired
from chatd_server.hub.attempts import closing
from chatd_server.hub.overlay import OverlayStatus
from chatd_server.ports.store import Applied, EventPage

CHAT = ChatId("018bcfe5-6800-7000-8000-000000000001")
OWNER = OwnerId("owner")
NOW: Instant = 1_700_000_000_000_000


class Gate:
    """A wait that the explorer ends."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __await__(self) -> Generator["Gate", None, None]:
        """Yield itself to the driver of the coroutine."""
        yield self


class ModelStore:
    """The true state of one chat. `page_max` limits a page of events, to force paging."""

    def __init__(self, page_max: int = 64) -> None:
        self._page_max = page_max
        self._numbers = count(1)
        self.log: list[LoggedEvent] = []
        self.oldest = 1
        self._messages: list[Message] = []
        #: By position: the revision that removed a message.
        self._removed: dict[int, int] = {}
        #: Where each attempt began, and where and how the log closed it.
        self.began: dict[AttemptId, int] = {}
        self.closed: dict[AttemptId, tuple[int, OverlayStatus]] = {}
        self.state = self.apply(
            Create(
                command_id=self.command_id(),
                chat_id=CHAT,
                owner_id=OWNER,
                config=ChatConfig(),
                parts=(Text("hello"),),
            )
        ).state

    @property
    def head(self) -> int:
        """Newest sequence."""
        return len(self.log)

    def command_id(self) -> str:
        """Return a fresh command id."""
        return f"command-{next(self._numbers)}"

    def hold(self, worker: str, epoch: int) -> dict[str, Any]:
        """Return the fields that sign a worker's command."""
        return {
            "command_id": self.command_id(),
            "worker_id": WorkerId(worker),
            "epoch": epoch,
        }

    def apply(self, order: Command | Chain) -> Applied:
        """Commit a command, or a chain."""
        before = getattr(self, "state", None)
        done = decide(before, order, NOW)
        if done.removed_from is not None:
            for message in self._messages:
                if message.position >= done.removed_from:
                    self._removed.setdefault(message.position, done.state.revision)
        self._messages.extend(done.messages)
        for event in done.events:
            self._close(event)
            self.log.append(event)
        self.state = done.state
        attempt = self.state.turn.attempt if self.state.turn else None
        if attempt is not None:
            self.began.setdefault(attempt.id, attempt.base_sequence)
        return Applied(done.state, done.reply, done.state.head_sequence, done.events, done.messages)

    def _close(self, event: LoggedEvent) -> None:
        for attempt_id in self.began.keys() - self.closed.keys():
            how = closing(event.event, attempt_id)
            if how is not OverlayStatus.OPEN:
                self.closed[attempt_id] = event.sequence, how

    def prune(self) -> None:
        """Drop every event, as a retention does."""
        self.oldest = self.head + 1

    # --- what the hub reads --------------------------------------------------------------------

    async def load(self, chat_id: ChatId, owner_id: OwnerId | None = None) -> ChatState:
        """Return the state at the moment between the two waits."""
        await Gate("load looks")
        state = self.state
        await Gate("load answers")
        if owner_id is not None and (state.deleted or owner_id != state.owner_id):
            raise ChatNotFound(chat_id)
        return state

    async def messages_as_of(
        self, state: ChatState, *, after_position: int
    ) -> tuple[Sequence[Message], bool]:
        """Return the messages as of the state, after a wait."""
        await Gate("page answers")
        return [
            message
            for message in self._messages
            if after_position < message.position < state.next_position
            and self._removed.get(message.position, state.revision + 1) > state.revision
        ], False

    async def events(self, chat_id: ChatId, *, after: int, limit: int, bytes_max: int) -> EventPage:
        """Return the events at the moment between the two waits."""
        assert bytes_max > 0
        await Gate("events look")
        head, oldest, deleted = self.head, self.oldest, self.state.deleted
        page = tuple(self.log[after : after + min(limit, self._page_max)])
        await Gate("events answer")
        if deleted:
            raise ChatNotFound(chat_id)
        if after > head:
            raise CursorAhead("beyond the head", oldest, head)
        if after < oldest - 1:
            raise CursorExpired("too old", oldest, head)
        return EventPage(page, oldest, head)
