"""A chat that a test moves by hand: each command goes through `decide`, and all events are kept."""

from collections.abc import Iterable
from itertools import count
from typing import Any

import msgspec

from chatd_server.domain.chain import Chain, commands_of, decide
from chatd_server.domain.chat import (
    AttemptKind,
    ChatConfig,
    ChatState,
    OpenCall,
    Status,
    StopReason,
    Turn,
)
from chatd_server.domain.command import (
    Acquire,
    BusyBehavior,
    Command,
    CommitAnswer,
    CommitResults,
    Create,
    Fail,
    FinishTurn,
    Interrupt,
    RequireAction,
    SendMessage,
    StartAttempt,
    SubmittedResult,
    SubmitToolResults,
)
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolved,
    ChatDeleted,
    ChatUpdated,
    Event,
    HistoryTruncated,
    LoggedEvent,
    MessageCommitted,
    QueueChanged,
    StatusChanged,
)
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import (
    MICROSECONDS,
    AttemptId,
    ChatId,
    OwnerId,
    ToolCallId,
    TurnId,
    WorkerId,
)
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Message,
    Part,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
)
from chatd_server.domain.transition import Transition
from tests.kit.fold import fold, shown

BEGIN = 1_700_000_000 * MICROSECONDS
LEASE_SECONDS = 30.0
WORKER = WorkerId("worker-1")
CHAT = ChatId("018bcfe5-6800-7000-8000-000000000001")
OWNER = OwnerId("owner-1")
#: The order of events within a transition; events without an entry have 4.
RANKS: dict[type[Event], int] = {
    ChatUpdated: 0,
    HistoryTruncated: 0,
    MessageCommitted: 1,
    ActionRequired: 2,
    ActionResolved: 2,
    QueueChanged: 3,
    StatusChanged: 5,
    ChatDeleted: 6,
}
ERROR = ChatError(kind=ErrorKind.AUTH, message="the key was refused")


class ByHand:
    """One chat, its log, its visible messages, and a clock that the test controls."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.maybe: ChatState | None = None
        self.log: list[LoggedEvent] = []
        self.messages: list[Message] = []
        self._numbers = count(1)

    @property
    def state(self) -> ChatState:
        """The execution state."""
        assert self.maybe is not None
        return self.maybe

    @property
    def turn(self) -> Turn:
        """The open or failed turn."""
        assert self.state.turn is not None
        return self.state.turn

    @property
    def last(self) -> Message:
        """The newest visible message."""
        return self.messages[-1]

    @property
    def results(self) -> dict[str, ToolResult]:
        """All visible results of server and client calls, by call."""
        return {it.call_id: it for message in self.messages for it in message.results}

    def do(self, order: Command | Chain, seconds: float = 0.0) -> Transition:
        """Apply a command after some time, and check the invariants of the transition."""
        self.now += round(seconds * MICROSECONDS)
        before = self.maybe
        done = decide(before, order, self.now)
        if not done.changed:
            assert done.state == before
            assert not done.events
            return done
        old = ChatState(CHAT, OWNER, CHAT, 0, 0) if before is None else before
        assert done.state.revision == old.revision + len(commands_of(order))
        assert done.state.head_sequence == old.head_sequence + len(done.events)
        assert tuple(it.message for it in done.events if it.message) == done.messages
        ranks = [RANKS.get(type(it.event), 4) for it in done.events]
        if not isinstance(order, Chain):
            assert ranks == sorted(ranks), "the order of events within a transition"
        if done.removed_from is not None:
            self.messages = [it for it in self.messages if it.position < done.removed_from]
        self.messages.extend(done.messages)
        self.log.extend(done.events)
        self.maybe = done.state
        assert fold(self.log) == shown(done.state, self.messages)
        return done

    def hold(self) -> dict[str, Any]:
        """Return the fields that sign a worker's command."""
        lease = self.state.lease
        worker = WORKER if lease is None else lease.worker_id
        return {"command_id": self.command_id(), "worker_id": worker, "epoch": self.state.epoch}

    def command_id(self) -> str:
        """Return a fresh command id."""
        return f"command-{next(self._numbers)}"

    # --- verbs -----------------------------------------------------------------------------

    def create(self, text: str = "", config: ChatConfig | None = None) -> Transition:
        """Create the chat, with a first message unless the text is empty."""
        return self.do(
            Create(
                command_id=self.command_id(),
                chat_id=CHAT,
                owner_id=OWNER,
                config=config or ChatConfig(),
                parts=(Text(text),) if text else (),
            )
        )

    def send(self, text: str, busy: BusyBehavior = BusyBehavior.QUEUE) -> Transition:
        return self.do(SendMessage(command_id=self.command_id(), parts=(Text(text),), busy=busy))

    def interrupt(self) -> Transition:
        """Interrupt the open turn."""
        return self.do(Interrupt(command_id=self.command_id()))

    def acquire(self) -> Transition:
        """Take the lease."""
        return self.do(Acquire(**self.hold(), lease_seconds=LEASE_SECONDS))

    def attempt(self, kind: AttemptKind = AttemptKind.MODEL) -> AttemptId:
        """Begin an attempt; return its id."""
        attempt_id = AttemptId(f"attempt-{next(self._numbers)}")
        self.do(StartAttempt(**self.hold(), attempt_id=attempt_id, kind=kind))
        return attempt_id

    def answer(self, *parts: Part | str, finish: FinishReason | None = None) -> Transition:
        """Run one model call to its answer; by default the parts determine the finish reason."""
        content = tuple(Text(it) if isinstance(it, str) else it for it in parts)
        asks = any(isinstance(it, ToolCall) for it in content)
        usual = FinishReason.TOOL_CALLS if asks else FinishReason.END_TURN
        return self.do(
            CommitAnswer(
                **self.hold(),
                attempt_id=self.attempt(),
                parts=content,
                finish_reason=finish or usual,
                model="sandbox/any",
            )
        )

    def batch(self, *call_ids: str) -> Transition:
        """Run one batch of tools to its results."""
        attempt_id = self.attempt(AttemptKind.TOOLS)
        results = tuple(self.result(it) for it in call_ids)
        return self.do(CommitResults(**self.hold(), attempt_id=attempt_id, results=results))

    def result(self, call_id: str, output: str = "done") -> ToolResult:
        """Return a result of an open call."""
        call = next(it for it in self.state.calls if it.id == call_id)
        return ToolResult(call.id, call.name, output, call.executor, self.now)

    def require_action(self) -> Transition:
        """Ask the client for the open calls."""
        return self.do(RequireAction(**self.hold()))

    def submit(
        self, *call_ids: str, output: str = "ok", is_json: bool = False, partial: bool = False
    ) -> Transition:
        """Submit the client's results."""
        return self.do(
            SubmitToolResults(
                command_id=self.command_id(),
                results=tuple(SubmittedResult(ToolCallId(it), output, is_json) for it in call_ids),
                allow_partial=partial,
            )
        )

    def finish(self, why: StopReason = StopReason.END_TURN) -> Transition:
        return self.do(FinishTurn(**self.hold(), turn_id=self.turn.id, stop_reason=why))

    def fail(self) -> Transition:
        return self.do(Fail(**self.hold(), error=ERROR))

    def journal(
        self, call_id: str, *, started: bool = True, outcome: ToolResult | None = None
    ) -> None:
        """Add the contents of the store's journal to the state, as a load does."""
        at = self.now if started else None
        self.maybe = msgspec.structs.replace(
            self.state,
            calls=tuple(
                msgspec.structs.replace(it, started_at=at, outcome=outcome)
                if it.id == call_id
                else it
                for it in self.state.calls
            ),
        )


def call(call_id: str, executor: Executor = Executor.SERVER, name: str = "shell") -> ToolCall:
    """Return a tool call as in an answer."""
    return ToolCall(ToolCallId(call_id), name, "{}", executor, BEGIN)


def kinds(events: Iterable[LoggedEvent]) -> list[str]:
    """Return the names of events, in order."""
    return [type(it.event).__name__ for it in events]


def said(events: Iterable[LoggedEvent], kind: type[Event]) -> list[Event]:
    """Return the events of one kind."""
    return [it.event for it in events if isinstance(it.event, kind)]


def open_ids(calls: Iterable[OpenCall]) -> list[str]:
    """Return the ids of open calls."""
    return [it.id for it in calls]


def errors(chat: ByHand) -> dict[str, ToolErrorKind | None]:
    """Return why each result is an error, in the order of the results."""
    return {call_id: it.error for call_id, it in chat.results.items()}


def texts(chat: ByHand) -> list[str]:
    """Return the texts in the queue, head first."""
    return [it.text for queued in chat.state.queue for it in queued.parts if isinstance(it, Text)]


def told(chat: ByHand, since: int) -> list[tuple[Status, TurnId, StopReason | None]]:
    """Return the status events after a sequence."""
    events = said([it for it in chat.log if it.sequence > since], StatusChanged)
    return [
        (it.status, it.turn_id, it.stop_reason) for it in events if isinstance(it, StatusChanged)
    ]
