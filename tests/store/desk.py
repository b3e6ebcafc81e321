"""Verbs for the exam: who sends which command to a store, without the noise of ids."""

from collections.abc import Sequence

import msgspec

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import (
    AttemptKind,
    ChatConfig,
    ChatState,
    ClientTool,
    StopReason,
)
from chatd_server.domain.command import (
    BusyBehavior,
    Command,
    CommitAnswer,
    CommitResults,
    Create,
    EditMessage,
    FinishTurn,
    Interrupt,
    RequireAction,
    SendMessage,
    StartAttempt,
    SubmittedResult,
    SubmitToolResults,
)
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import (
    AttemptId,
    ChatId,
    OwnerId,
    ToolCallId,
    WorkerId,
    new_uuid,
)
from chatd_server.domain.message import Executor, FinishReason, Part, Text, ToolCall, ToolResult
from chatd_server.domain.transition import CallStart
from chatd_server.ports.store import Acquired, Applied, RequestKey, Store
from tests.kit.clock import ManualClock

ANN = OwnerId("ann")
BOB = OwnerId("bob")
W1 = WorkerId("w1")
W2 = WorkerId("w2")
LEASE_SECONDS = 30.0


def text_of(applied: Applied) -> str:
    """Return the text of the only new message."""
    (message,) = applied.messages
    (part,) = message.parts
    assert isinstance(part, Text)
    return part.text


class Desk:
    """Sends commands to one store."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    def id(self) -> str:
        """Return an id that no command had yet."""
        return new_uuid(self.clock.now())

    # --- clients ---------------------------------------------------------------------------

    def create_command(
        self, text: str = "hello", owner: OwnerId = ANN, config: ChatConfig | None = None
    ) -> Create:
        """Return a command that makes a chat; empty text makes one without a message."""
        return Create(
            command_id=self.id(),
            chat_id=ChatId(new_uuid(self.clock.now())),
            owner_id=owner,
            config=config or ChatConfig(model="sandbox/echo"),
            parts=(Text(text),) if text else (),
        )

    async def create(
        self, text: str = "hello", owner: OwnerId = ANN, config: ChatConfig | None = None
    ) -> ChatId:
        """Make a chat."""
        command = self.create_command(text, owner, config)
        await self.store.apply(command.chat_id, command)
        return command.chat_id

    async def send(
        self,
        chat_id: ChatId,
        text: str,
        *,
        busy: BusyBehavior = BusyBehavior.QUEUE,
        request: RequestKey | None = None,
        owner: OwnerId = ANN,
    ) -> Applied:
        """Send a message."""
        command = SendMessage(command_id=self.id(), parts=(Text(text),), busy=busy)
        return await self.store.apply(chat_id, command, request=request, owner_id=owner)

    async def edit(self, chat_id: ChatId, position: int, text: str) -> Applied:
        """Replace a user's message."""
        command = EditMessage(command_id=self.id(), position=position, parts=(Text(text),))
        return await self.store.apply(chat_id, command, owner_id=ANN)

    async def interrupt(self, chat_id: ChatId) -> Applied:
        """Stop the open turn."""
        return await self.store.apply(chat_id, Interrupt(command_id=self.id()), owner_id=ANN)

    async def submit(self, chat_id: ChatId, *call_ids: str, allow_partial: bool = False) -> Applied:
        """Hand in results of client tools."""
        results = tuple(
            SubmittedResult(ToolCallId(one), f"result of {one}", is_json=False) for one in call_ids
        )
        command = SubmitToolResults(
            command_id=self.id(), results=results, allow_partial=allow_partial
        )
        return await self.store.apply(chat_id, command, owner_id=ANN)

    # --- the worker ------------------------------------------------------------------------

    async def acquire(self, worker: WorkerId = W1, slots: int = 1) -> Sequence[Acquired]:
        """Take chats that have work."""
        return list((await self.store.acquire(worker, slots, LEASE_SECONDS)).chats)

    async def running(self, text: str = "hello", owner: OwnerId = ANN) -> ChatState:
        """Make a chat and let a worker take it; it is the only one with work."""
        await self.create(text, owner)
        (acquired,) = await self.acquire()
        return acquired.state

    async def start(
        self, state: ChatState, kind: AttemptKind = AttemptKind.MODEL, *, known: bool = True
    ) -> ChatState:
        """Begin an attempt."""
        command = self.start_command(state, kind)
        applied = await self.store.apply(state.id, command, known=state if known else None)
        return applied.state

    def start_command(self, state: ChatState, kind: AttemptKind) -> StartAttempt:
        """Return the command that begins an attempt."""
        attempt_id = AttemptId(new_uuid(self.clock.now()))
        return StartAttempt(
            command_id=f"{attempt_id}:start",
            worker_id=W1,
            epoch=state.epoch,
            attempt_id=attempt_id,
            kind=kind,
        )

    def answer_command(
        self, state: ChatState, text: str = "answer", calls: Sequence[ToolCall] = ()
    ) -> CommitAnswer:
        """Return the command that commits an answer of the open attempt."""
        assert state.turn is not None
        assert state.turn.attempt is not None
        parts: tuple[Part, ...] = (Text(text), *calls)
        return CommitAnswer(
            command_id=f"{state.turn.attempt.id}:answer",
            worker_id=W1,
            epoch=state.epoch,
            attempt_id=state.turn.attempt.id,
            parts=parts,
            finish_reason=FinishReason.TOOL_CALLS if calls else FinishReason.END_TURN,
            model="sandbox/echo",
        )

    async def answer(
        self, state: ChatState, text: str = "answer", calls: Sequence[ToolCall] = ()
    ) -> Applied:
        """Commit an answer of the open attempt."""
        return await self.store.apply(
            state.id, self.answer_command(state, text, calls), known=state
        )

    async def answered(
        self, state: ChatState, text: str = "answer", calls: Sequence[ToolCall] = ()
    ) -> ChatState:
        """Begin an attempt and commit its answer."""
        return (await self.answer(await self.start(state), text, calls)).state

    def call(self, call_id: str, executor: Executor = Executor.SERVER) -> ToolCall:
        """Return a tool call."""
        return ToolCall(ToolCallId(call_id), "ls", "{}", executor, self.clock.now())

    def result(self, call_id: str, output: str = "done") -> ToolResult:
        """Return the result of a call of ours."""
        return ToolResult(ToolCallId(call_id), "ls", output, Executor.SERVER, self.clock.now())

    async def begin(self, state: ChatState, *call_ids: str) -> ChatState:
        """Begin a batch of tools, and these calls of it."""
        start = self.start_command(state, AttemptKind.TOOLS)
        return (await self.chain(state, start, started=call_ids)).state

    async def finish_call(self, state: ChatState, call_id: str, output: str = "done") -> None:
        """Write an outcome into the journal."""
        await self.store.finish_call(state.id, state.epoch, self.result(call_id, output))

    async def chain(
        self,
        state: ChatState,
        *commands: Command,
        started: Sequence[str] = (),
        known: bool = True,
    ) -> Applied:
        """Commit several commands of the holder at once, and the starts of calls."""
        calls = tuple(CallStart(ToolCallId(one), self.clock.now()) for one in started)
        chain = Chain(commands, calls)
        return await self.store.apply(state.id, chain, known=state if known else None)

    def results_command(self, state: ChatState, *results: ToolResult) -> CommitResults:
        """Return the command that commits results of the open batch."""
        assert state.turn is not None
        assert state.turn.attempt is not None
        return CommitResults(
            command_id=f"{state.turn.attempt.id}:results",
            worker_id=W1,
            epoch=state.epoch,
            attempt_id=state.turn.attempt.id,
            results=results,
        )

    async def results(self, state: ChatState, *results: ToolResult) -> Applied:
        """Commit results of tools."""
        return await self.store.apply(state.id, self.results_command(state, *results), known=state)

    def finish_command(self, state: ChatState) -> FinishTurn:
        """Return the command that ends the turn."""
        assert state.turn is not None
        return FinishTurn(
            command_id=self.id(),
            worker_id=W1,
            epoch=state.epoch,
            turn_id=state.turn.id,
            stop_reason=StopReason.END_TURN,
        )

    async def finish(self, state: ChatState) -> Applied:
        """End the turn."""
        return await self.store.apply(state.id, self.finish_command(state), known=state)

    def action_command(self, state: ChatState) -> RequireAction:
        """Return the command that hands the open calls to the client."""
        return RequireAction(command_id=self.id(), worker_id=W1, epoch=state.epoch)

    async def asking(self, *call_ids: str) -> ChatState:
        """Make a chat that waits for client tools."""
        config = ChatConfig(model="sandbox/echo", tools=(ClientTool("ls"),))
        await self.create(config=config)
        (acquired,) = await self.acquire()
        calls = [self.call(one, Executor.CLIENT) for one in call_ids]
        state = await self.answered(acquired.state, calls=calls)
        return (await self.store.apply(state.id, self.action_command(state), known=state)).state

    # --- what the database says ------------------------------------------------------------

    async def log(self, chat_id: ChatId) -> Sequence[LoggedEvent]:
        """Return the whole log."""
        page = await self.store.events(chat_id, after=0, limit=100_000, bytes_max=1 << 30)
        return page.events

    async def texts(self, chat_id: ChatId) -> list[str]:
        """Return the text of each message that stands."""
        messages, more = await self.store.messages(
            chat_id, after_position=0, limit=100_000, bytes_max=1 << 30
        )
        assert not more
        return [
            " ".join(
                part.text if isinstance(part, Text) else msgspec.json.encode(part).decode()
                for part in message.parts
            )
            for message in messages
        ]


def assert_gap_free(log: Sequence[LoggedEvent], state: ChatState) -> None:
    """Sequences are 1, 2, 3, ... up to the head, and each message event has its message."""
    assert [logged.sequence for logged in log] == list(range(1, state.head_sequence + 1))
    for logged in log:
        if logged.message is not None:
            assert logged.message.sequence == logged.sequence
