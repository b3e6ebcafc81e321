"""Readers that attach, lag, leave and come back at random, against one random writer."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from chatd_server.domain.chat import (
    Attempt,
    AttemptKind,
    ChatState,
    Status,
    Turn,
)
from chatd_server.domain.event import (
    Event,
    LoggedEvent,
    MessageCommitted,
    QueueChanged,
    RetryScheduled,
    StatusChanged,
)
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import AttemptId, ChatId, MessageId, OwnerId, ToolCallId, TurnId
from chatd_server.domain.live import Follow, Piece, StreamEndReason
from chatd_server.domain.message import Executor, Message, Part, Role, Text, ToolCall, ToolResult
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.hub import AttemptOverlayWriter
from chatd_server.hub.overlay import Overlay, OverlayStatus
from chatd_server.hub.reader import Next, Reader
from chatd_server.ports import EventPage
from tests.hub.client import CheckingClient

CHAT = ChatId("c")
TURN = TurnId("t")
ERROR = ChatError(ErrorKind.OVERLOADED, "busy")
FOREVER = 10**18
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


class Log:
    """One chat's log and state: what a store would answer."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []
        self.attempt: Attempt | None = None
        self.status = Status.RUNNING
        self.message_count = 0

    @property
    def head(self) -> int:
        """Newest sequence."""
        return len(self.events)

    def append(self, event: Event, message: Message | None = None) -> LoggedEvent:
        """Commit an event."""
        logged = LoggedEvent(self.head + 1, at=0, event=event, message=message)
        self.events.append(logged)
        if isinstance(event, StatusChanged):
            self.status = event.status
        return logged

    def page(self, after: int, limit: int) -> EventPage:
        """Read behind a sequence."""
        return EventPage(tuple(self.events[after : after + limit]), 1, self.head)

    @property
    def state(self) -> ChatState:
        """The state of the chat now."""
        return ChatState(
            id=CHAT,
            owner_id=OwnerId("o"),
            root_id=CHAT,
            created_at=0,
            updated_at=0,
            status=self.status,
            revision=self.head,
            head_sequence=self.head,
            turn=Turn(id=TURN, first_position=1, attempt=self.attempt),
        )


class Subscriber:
    """A reader, its client, and a read of the log that is under way."""

    def __init__(self, reader: Reader, client: CheckingClient) -> None:
        self.reader = reader
        self.client = client
        self.reading: EventPage | None = None
        self.refreshing: EventPage | None = None

    def step(self, log: Log, limit: int) -> bool:
        """Do what the reader decides; say whether there was anything to do."""
        reader, client = self.reader, self.client
        if self.reading is not None:
            reader.take(self.reading)
            self.reading = None
            return True
        if self.refreshing is not None:
            reader.chat.refreshing = False
            reader.chat.add(self.refreshing.events)
            if reader.chat.head < self.refreshing.head_sequence:
                reader.chat.mark_stale()
            self.refreshing = None
            return True
        step = reader.decide()
        assert not isinstance(step, StreamEndReason)
        if isinstance(step, Piece):
            assert reader.overlay is not None
            base = reader.overlay.base_sequence
            attempt_id = reader.sent_piece(step)
            client.piece(attempt_id, step, base, reader.cursor)
        elif isinstance(step, LoggedEvent):
            reader.chat.observe(step)
            reader.sent_event(step)
            client.event(step, reader.cursor)
        elif step is Next.READ:
            self.reading = log.page(reader.sequence, limit)
        elif step is Next.REFRESH:
            reader.chat.refreshing, reader.chat.stale = True, False
            self.refreshing = log.page(reader.chat.head, limit)
        elif step is Next.RESET:
            client.reset(reader.sent_reset(), reader.cursor)
        elif step is Next.CAUGHT_UP:
            reader.sent_caught_up()
        else:
            assert step is Next.WAIT
            return False
        return True


class Followers(RuleBasedStateMachine):
    """One chat: a worker, a store, hints that come late, and many subscribers."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.chat = LiveChat(CHAT)
        self.subscribers: list[Subscriber] = []
        self.stored: list[CheckingClient] = []
        self.writer: AttemptOverlayWriter | None = None
        self.parts: list[Part] = []
        self.attempts = 0
        #: Commits of which the hub was not told yet: of another process, or a moment too early.
        self.untold: list[LoggedEvent] = []

    @initialize()
    def begins(self) -> None:
        """A chat that runs."""
        self.commit(StatusChanged(Status.RUNNING, TURN), by_other=False)
        self.subscribes(deltas=True)
        self.attempt_begins(all_read=True)

    # --- the writer ----------------------------------------------------------------------------

    def commit(self, event: Event, *, by_other: bool, message: Message | None = None) -> None:
        """Append to the log; tell the hub, or leave it to a hint."""
        logged = self.log.append(event, message)
        if by_other:
            self.untold.append(logged)
        else:
            self.tell((logged,))

    def tell(self, events: tuple[LoggedEvent, ...]) -> None:
        """Do what the hub does with a commit of this process."""
        if self.chat.attached:
            self.chat.add(events)
        else:
            for event in events:
                self.chat.observe(event)

    @rule()
    def hint_comes(self) -> None:
        """A hint tells of everything so far, or of nothing new."""
        self.untold.clear()
        self.chat.mark_stale()

    @rule(by_other=st.booleans())
    def event_in_between(self, by_other: bool) -> None:
        """Something is queued while the turn runs."""
        self.commit(QueueChanged(()), by_other=by_other)

    @precondition(lambda self: self.writer is None)
    @rule(all_read=st.booleans())
    def attempt_begins(self, all_read: bool) -> None:
        """The worker opens an attempt."""
        if self.log.status is not Status.RUNNING:
            self.commit(StatusChanged(Status.RUNNING, TURN), by_other=False)
        self.attempts += 1
        attempt_id = AttemptId(f"a{self.attempts}")
        self.log.attempt = Attempt(attempt_id, AttemptKind.MODEL, 1, self.log.head)
        if self.chat.overlay is not None:
            self.chat.close(self.chat.overlay, OverlayStatus.VOID)
        overlay = self.chat.overlay = Overlay(attempt_id, self.log.head)
        if self.chat.head and self.log.head > self.chat.head:
            self.chat.mark_stale()
        self.writer = AttemptOverlayWriter(overlay, self.chat, lambda _: None)
        self.parts = []
        self.writes_text("so", is_new=True, all_read=all_read)

    @precondition(lambda self: self.writer is not None)
    @rule(text=TEXT, is_new=st.booleans(), all_read=st.booleans())
    def writes_text(self, text: str, is_new: bool, all_read: bool) -> None:
        """The model says something."""
        assert self.writer is not None
        last = self.parts[-1] if self.parts else None
        if is_new or not isinstance(last, Text):
            self.parts.append(Text(text))
        else:
            self.parts[-1] = Text(last.text + text)
        self.writer.text(len(self.parts) - 1, text)
        if all_read:
            self.all_read()

    @precondition(lambda self: self.writer is not None)
    @rule(arguments=st.sampled_from(["", "{}", '{"a":"é"}']))
    def writes_a_call(self, arguments: str) -> None:
        """The model calls a tool."""
        assert self.writer is not None
        call = ToolCall(
            ToolCallId(f"x{self.attempts}.{len(self.parts)}"), "look", arguments, Executor.SERVER, 0
        )
        self.parts.append(call)
        self.writer.call(len(self.parts) - 1, call.id, call.name, call.executor, "")
        self.writer.call(len(self.parts) - 1, call.id, call.name, call.executor, arguments)

    def message(self, role: Role, parts: tuple[Part, ...]) -> Message:
        """Return the next message of the history."""
        self.log.message_count += 1
        assert self.log.attempt is not None
        return Message(
            id=MessageId(f"m{self.log.message_count}"),
            position=self.log.message_count,
            role=role,
            parts=parts,
            turn_id=TURN,
            created_at=0,
            sequence=self.log.head + 1,
            attempt_id=self.log.attempt.id,
        )

    @precondition(lambda self: self.writer is not None)
    @rule(with_result=st.booleans(), finishes=st.booleans())
    def attempt_is_committed(self, with_result: bool, finishes: bool) -> None:
        """The answer is committed, with a second message of the same attempt at times."""
        assert self.log.attempt is not None
        attempt_id = self.log.attempt.id
        answer = self.message(Role.ASSISTANT, tuple(self.parts))
        events = [self.log.append(MessageCommitted(answer.position, attempt_id), answer)]
        if with_result:
            result = ToolResult(ToolCallId("x"), "look", "cut", Executor.NONE, created_at=0)
            second = self.message(Role.TOOL, (result,))
            events.append(self.log.append(MessageCommitted(second.position, attempt_id), second))
        if finishes:
            events.append(self.log.append(StatusChanged(Status.WAITING, TURN)))
        self.log.attempt = None
        self.tell(tuple(events))
        self.late_write()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def attempt_is_retried(self) -> None:
        """The model failed; the attempt is void."""
        assert self.log.attempt is not None
        attempt_id = self.log.attempt.id
        self.log.attempt = None
        self.commit(RetryScheduled(attempt_id, 1, 1.0, 0, ERROR, TURN), by_other=False)
        self.late_write()

    @precondition(lambda self: self.writer is not None)
    @rule(by_other=st.booleans())
    def worker_is_replaced(self, by_other: bool) -> None:
        """An edit, a rescue, a release: the chat leaves the worker."""
        self.log.attempt = None
        self.commit(StatusChanged(Status.PENDING, TURN), by_other=by_other)
        assert self.writer is not None
        self.writer.abandon()
        self.late_write()

    def late_write(self) -> None:
        """A write to a closed attempt is ignored."""
        assert self.writer is not None
        self.writer.text(0, "late")
        self.writer.abandon()
        self.writer = None

    # --- the readers ---------------------------------------------------------------------------

    def attach(self, deltas: bool) -> Reader:
        """Attach a reader, as the hub does."""
        self.chat.attached += 1
        return Reader(self.chat, Follow(deltas=deltas), 0, FOREVER, FOREVER)

    @rule(deltas=st.booleans())
    def subscribes(self, deltas: bool) -> None:
        """A new client gets a snapshot, here reduced to its sequence."""
        reader = self.attach(deltas)
        reader.begin_with_snapshot(self.log.state)
        client = CheckingClient(sequence=self.log.head, has_deltas=deltas)
        client.events = list(self.log.events)
        client.connected_from = self.log.head
        self.subscribers.append(Subscriber(reader, client))

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), limit=st.integers(1, 5))
    def resumes(self, data: st.DataObject, limit: int) -> None:
        """A client comes back with a cursor of any time."""
        client = data.draw(st.sampled_from(self.stored)).copy()
        reader = self.attach(client.has_deltas)
        state = self.log.state
        inside = client.preview.attempt_id if client.preview else ""
        is_open = self.chat.overlay is not None and self.chat.overlay.attempt_id == inside
        client.came_back_inside = inside if is_open else ""
        client.connected_from = state.head_sequence
        reader.begin_at(client.cursor, state)
        reader.take(self.log.page(client.cursor.sequence, limit))
        self.subscribers.append(Subscriber(reader, client))

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data(), steps=st.integers(1, 6), limit=st.integers(1, 5))
    def reads(self, data: st.DataObject, steps: int, limit: int) -> None:
        """One client reads on; now and then it stores its cursor."""
        subscriber = data.draw(st.sampled_from(self.subscribers))
        for _ in range(steps):
            if not subscriber.step(self.log, limit):
                break
            self.store(subscriber)

    @precondition(lambda self: self.subscribers)
    @rule()
    def all_read(self) -> None:
        """Everybody becomes level."""
        for _ in range(10_000):
            did_something = [subscriber.step(self.log, 3) for subscriber in self.subscribers]
            if not any(did_something):
                break
        else:
            pytest.fail("a reader never becomes level")
        for subscriber in self.subscribers:
            self.store(subscriber)

    def store(self, subscriber: Subscriber) -> None:
        """A client stores what it has, and the cursor that belongs to it."""
        cursor = subscriber.reader.cursor
        if not cursor.snapshot_unfinished:
            subscriber.client.cursor = cursor
            self.stored.append(subscriber.client.copy())

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        """A client goes away, in the middle of whatever it did."""
        subscriber = data.draw(st.sampled_from(self.subscribers))
        self.subscribers.remove(subscriber)
        if subscriber.refreshing is not None:
            self.chat.refreshing = False
            self.chat.stale = True
        self.chat.attached -= 1
        if not self.chat.attached:
            self.chat.forget()
            self.chat.head = 0
            self.chat.stale = False

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        """However slow readers are, the chat keeps a little."""
        assert len(self.chat.tail) <= 32
        assert len(self.chat.closed) <= 4

    def teardown(self) -> None:
        """In the end, every subscriber has the whole log and the open attempt so far."""
        self.hint_comes()
        self.all_read()
        overlay = self.chat.overlay
        for subscriber in self.subscribers:
            client = subscriber.client
            assert client.events == self.log.events
            assert subscriber.reader.caught_up
            if client.has_deltas and overlay is not None and overlay.size:
                assert client.preview is not None
                assert client.preview.offset == overlay.size
            else:
                assert client.preview is None


Followers.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestFollowers = pytest.mark.timeout(300)(Followers.TestCase)
