"""A server's edge without a worker: the test is the worker, so it decides who does what when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatd_server.domain.chat import AttemptKind, ChatConfig, ChatState, StopReason
from chatd_server.domain.command import (
    Command,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    Create,
    FailCompaction,
    FinishTurn,
    ScheduleRetry,
    SendMessage,
    StartAttempt,
)
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId, ChatId, OwnerId, WorkerId, new_uuid
from chatd_server.domain.live import CompactionStart, PieceKind
from chatd_server.domain.message import (
    CompactionSource,
    FinishReason,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from chatd_server.hub.feeds import Feeds
from chatd_server.hub.hub import Hub
from chatd_server.ports.live import AttemptWriter
from chatd_server.ports.store import Applied, Store
from chatd_server.service.keys import Keys
from tests.kit.clock import ManualClock
from tests.kit.script import MODEL
from tests.subscribe.follower import Follower

OWNER = OwnerId("owner")
WORKER = WorkerId("by hand")
LEASE_SECONDS = 30.0


@dataclass
class Edge:
    """One process: a store, a hub, a gRPC server on a free port, a channel to it."""

    store: Store
    hub: Hub
    feeds: Feeds
    clock: ManualClock
    channel: Any
    stub: Any
    keys: Keys
    key: str
    #: Let commits from now on be those of another process, whose hints are lost.
    go_deaf: Callable[[], None]

    @property
    def auth(self) -> tuple[tuple[str, str], ...]:
        """Metadata of the key."""
        return (("authorization", f"Bearer {self.key}"),)

    def follow(self, chat_id: str, **request: Any) -> Follower:
        """Subscribe with a fresh client."""
        return Follower(self.stub, self.auth, chat_id, request)

    async def call(self, method: str, request: Any) -> Any:
        """Call a unary RPC."""
        return await getattr(self.stub, method)(request, metadata=self.auth)

    async def chat(self, text: str = "hello", *, config: ChatConfig | None = None) -> "Chat":
        """Make a chat with a first message, held by this test as its worker."""
        chat_id = ChatId(new_uuid(self.clock.now()))
        create = Create(
            command_id=new_uuid(self.clock.now()),
            chat_id=chat_id,
            owner_id=OWNER,
            config=config or ChatConfig(model=MODEL),
            parts=(Text(text),) if text else (),
        )
        applied = await self.store.apply(chat_id, create)
        chat = Chat(self, chat_id, applied.state)
        if text:
            await chat.acquire()
        return chat


@dataclass
class Chat:
    """One chat, and the worker's side of it."""

    edge: Edge
    id: ChatId
    state: ChatState
    writer: AttemptWriter = field(init=False)
    attempt_id: AttemptId = field(init=False)

    @property
    def shown_bytes(self) -> int:
        """Bytes of the canonical string of the open attempt."""
        live = self.edge.hub._chats.get(self.id)
        overlay = None if live is None else live.attempts.current
        return 0 if overlay is None else overlay.size

    async def do(self, command: Command) -> Applied:
        """Apply a command."""
        applied = await self.edge.store.apply(self.id, command)
        self.state = applied.state
        return applied

    def command_id(self) -> str:
        """Return a fresh command id."""
        return new_uuid(self.edge.clock.now())

    def hold(self) -> dict[str, Any]:
        """Return who sends a worker's command."""
        return {
            "command_id": self.command_id(),
            "worker_id": WORKER,
            "epoch": self.state.epoch,
        }

    async def acquire(self) -> None:
        """Take the lease of everything that has work; this chat is among it."""
        for acquired in (await self.edge.store.acquire(WORKER, 100, LEASE_SECONDS)).chats:
            if acquired.state.id == self.id:
                self.state = acquired.state

    async def send(self, text: str) -> Applied:
        """Send a message, which is queued while a turn is open."""
        return await self.do(SendMessage(command_id=self.command_id(), parts=(Text(text),)))

    async def begin(self, kind: AttemptKind = AttemptKind.MODEL) -> AttemptWriter:
        """Begin an attempt and open its overlay."""
        self.attempt_id = AttemptId(new_uuid(self.edge.clock.now()))
        await self.do(StartAttempt(**self.hold(), attempt_id=self.attempt_id, kind=kind))
        self.writer = self.edge.hub.open(self.id, self.attempt_id, self.state.head_sequence)
        return self.writer

    async def commit(self, *parts: Part | str) -> Applied:
        """Commit the answer of the open attempt."""
        content = tuple(Text(it) if isinstance(it, str) else it for it in parts)
        asks = any(isinstance(it, ToolCall) for it in content)
        return await self.do(
            CommitAnswer(
                **self.hold(),
                attempt_id=self.attempt_id,
                parts=content,
                finish_reason=FinishReason.TOOL_CALLS if asks else FinishReason.END_TURN,
                model=MODEL,
            )
        )

    async def commit_results(self, results: Sequence[ToolResult]) -> Applied:
        """Commit the results of a batch of tools."""
        return await self.do(
            CommitResults(**self.hold(), attempt_id=self.attempt_id, results=tuple(results))
        )

    async def answer(self, text: str) -> Applied:
        """Say something in one attempt, live and then committed."""
        writer = await self.begin()
        writer.append(0, PieceKind.TEXT, text)
        return await self.commit(text)

    async def begin_compaction(self) -> AttemptWriter:
        """Begin a compaction, and show that it began."""
        writer = await self.begin(AttemptKind.COMPACTION)
        started = CompactionStart(CompactionSource.AUTO)
        writer.add(0, PieceKind.COMPACTION_STARTED, started)
        return writer

    async def commit_compaction(self, *texts: str, unanswered: str = "") -> Applied:
        """Commit the summary of the open attempt."""
        return await self.do(
            CommitCompaction(
                **self.hold(),
                attempt_id=self.attempt_id,
                parts=tuple(map(Text, texts)),
                source=CompactionSource.AUTO,
                unanswered=((Text(unanswered),),) if unanswered else (),
            )
        )

    async def fail_compaction(self) -> Applied:
        """The model gave no summary."""
        error = failure(ErrorKind.OVERLOADED, "the model is busy").error
        return await self.do(
            FailCompaction(
                **self.hold(),
                attempt_id=self.attempt_id,
                source=CompactionSource.AUTO,
                error=error,
            )
        )

    async def retry(self) -> Applied:
        """The model failed; another attempt follows."""
        error = failure(ErrorKind.OVERLOADED, "the model is busy").error
        return await self.do(
            ScheduleRetry(**self.hold(), attempt_id=self.attempt_id, delay_seconds=1.0, error=error)
        )

    async def finish(self) -> Applied:
        """End the turn."""
        assert self.state.turn is not None
        return await self.do(
            FinishTurn(**self.hold(), turn_id=self.state.turn.id, stop_reason=StopReason.END_TURN)
        )


class CountingReads:
    """A store that counts what is asked of it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.reads.append(name)
        return getattr(self._store, name)
