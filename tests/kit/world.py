"""A scenario without the server's edge: the real store and worker, a held clock, a scripted
model and scripted tools.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from chatd_server.agent.compaction.settings import CompactionSettings
from chatd_server.agent.turn.env import Env
from chatd_server.clock import RealClock
from chatd_server.domain.chat import ChatConfig, ChatState, ClientTool, Status, TurnOptions
from chatd_server.domain.command import (
    BusyBehavior,
    Command,
    Create,
    EditMessage,
    Interrupt,
    RequestCompaction,
    RetryTurn,
    SendMessage,
    SubmittedResult,
    SubmitToolResults,
)
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import ChatId, OwnerId, WorkerId, new_uuid
from chatd_server.domain.message import Executor, Message, Text
from chatd_server.ports.store import Applied, Store
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite.store import SqliteStore
from chatd_server.worker.settings import WorkerSettings
from chatd_server.worker.worker import Worker
from tests.kit.cable import Cable
from tests.kit.clock import ManualClock
from tests.kit.make import RecordingLive
from tests.kit.observer import F, RecordingObserver
from tests.kit.script import MODEL, ScriptedModel, ScriptedTool, ScriptedTools
from tests.kit.transcript import message_lines, transcript

OWNER = OwnerId("owner")


class Process:
    """One worker, as if in its own process."""

    def __init__(self, world: "World", name: str, settings: WorkerSettings) -> None:
        self.cable = Cable(world.store, world.clock)
        self.live = RecordingLive()
        self.wake = Hints(world.wake)
        #: Whether it learns of the other processes' commits as if they were its own.
        self.hears_commits = True
        env = Env(
            worker_id=WorkerId(name),
            store=cast("Store", self.cable),
            live=self.live,
            models=world.model,
            tool_sources=(world.tools,),
            clock=world.clock,
            observer=world.observer,
            compaction=world.compaction,
        )
        self.env = env
        self.worker = Worker(settings, self.wake, env)
        self.task = asyncio.create_task(self.worker.run(), name=f"worker {name}")

    def committed(self, applied: Applied) -> None:
        if self.hears_commits:
            self.worker.committed(applied)

    def goes_deaf(self) -> None:
        """Lose every hint from now on, as may happen to a process."""
        self.hears_commits = False
        self.wake.are_lost = True

    async def drain(self) -> None:
        """Shut down cleanly."""
        self.worker.drain()
        await self.task

    def leaves_at_once(self) -> None:
        """Shut down, and stop all runs now."""
        self.worker.drain()
        self.worker._stop_runs()

    async def crash(self) -> None:
        """Kill it: nothing that it does afterwards reaches the database."""
        self.cable.cut()
        self.task.cancel()
        await asyncio.wait([self.task])


class Hints:
    """A `Wake` whose hints a test can lose."""

    def __init__(self, wake: LocalWake) -> None:
        self._wake = wake
        self.are_lost = False

    def hint(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Pass the hint on."""
        self._wake.hint(chat_id, revision, status)

    def listen(self, callback: Callable[[ChatId, int, Status], None]) -> Callable[[], None]:
        """Pass on the hints that are not lost."""

        def heard(chat_id: ChatId, revision: int, status: Status) -> None:
            if not self.are_lost:
                callback(chat_id, revision, status)

        return self._wake.listen(heard)

    def listen_gaps(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Pass on: gaps are always noticed."""
        return self._wake.listen_gaps(callback)


class World:
    """Use it as a context; it cleans up everything. The test starts the workers."""

    def __init__(self, path: Path, url: str = "") -> None:
        """Use a file for the embedded store, or the URL of a migrated shared one."""
        self._path = path
        self._url = url
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.model = ScriptedModel()
        self.tools = ScriptedTools()
        self.wake = LocalWake()
        self.settings = WorkerSettings()
        self.compaction = CompactionSettings()
        self.processes: list[Process] = []
        self._states: dict[ChatId, ChatState] = {}
        #: Number of committed transitions and chains, without outcomes in the journal.
        self.commits = 0
        self._waits: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        self.store = await self.open_store()
        self.store.listen(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.tools.release()
        for process in self.processes:
            process.task.cancel()
        if self.processes:
            await asyncio.wait([process.task for process in self.processes])
        await self.store.close()
        for process in self.processes:
            if not process.task.cancelled():
                process.task.result()  # a worker that failed fails the test

    async def open_store(self) -> SqliteStore | PostgresStore:
        """Open the database; open a shared one twice."""
        if not self._url:
            return await SqliteStore.open(
                self._path, clock=self.clock, wake=self.wake, observer=self.observer
            )
        return await PostgresStore.open(
            self._url,
            clock=RealClock(),
            wake=self.wake,
            observer=self.observer,
            writers=4,
            held_time=self.clock.now,
        )

    def committed(self, applied: Applied) -> None:
        """Handle a commit: the world listens like a hub."""
        self.commits += 1
        self._states[applied.state.id] = applied.state
        for holds, future in self._waits:
            if holds() and not future.done():
                future.set_result(None)

    def start(self, name: str = "one", settings: WorkerSettings | None = None) -> Process:
        """Start a worker."""
        process = Process(self, name, settings or self.settings)
        self.processes.append(process)
        self.store.listen(process)
        return process

    @property
    def process(self) -> Process:
        """The newest worker."""
        return self.processes[-1]

    def tool(self, name: str, **declared: bool) -> ScriptedTool:
        """Add a server tool; see ScriptedTools.add."""
        return self.tools.add(name, **declared)

    async def until(self, kind: type[F], /, times: int = 1, **wanted: object) -> F:
        """Wait for a fact."""
        return await self.observer.until(kind, times, **wanted)

    async def chat(
        self,
        message: str,
        *,
        client_tools: Sequence[str] = (),
        options: TurnOptions | None = None,
        system_prompt: str = "",
        model: str = MODEL,
        action_timeout_seconds: float = 300.0,
    ) -> "Chat":
        """Create a chat with a first message; a worker, if any, starts at once."""
        chat_id = ChatId(new_uuid(self.clock.now()))
        config = ChatConfig(
            model=model,
            system_prompt=system_prompt,
            tools=tuple(ClientTool(name, f"the client's {name}") for name in client_tools),
            action_timeout_seconds=action_timeout_seconds,
        )
        chat = Chat(self, chat_id)
        await chat.apply(
            Create(
                command_id=chat.command(),
                chat_id=chat_id,
                owner_id=OWNER,
                config=config,
                parts=(Text(message),),
                options=options or TurnOptions(),
            )
        )
        return chat

    async def when(self, holds: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after each commit."""
        while not holds():
            wait = (holds, asyncio.get_running_loop().create_future())
            self._waits.append(wait)
            try:
                await wait[1]
            finally:
                self._waits.remove(wait)

    def state(self, chat_id: ChatId) -> ChatState:
        """Return a chat as of its newest commit."""
        return self._states[chat_id]


class Chat:
    """One chat, as its owner uses it."""

    def __init__(self, world: World, chat_id: ChatId) -> None:
        self.world = world
        self.id = chat_id

    @property
    def state(self) -> ChatState:
        """The state as of the newest commit."""
        return self.world.state(self.id)

    def command(self) -> str:
        """Return a new command id."""
        return new_uuid(self.world.clock.now())

    async def apply(self, command: Command) -> Applied:
        """Send a command."""
        with self.world.clock.job():
            return await self.world.store.apply(self.id, command)

    async def send(
        self, message: str, busy: BusyBehavior = BusyBehavior.QUEUE, max_steps: int | None = None
    ) -> Applied:
        """Send a message."""
        return await self.apply(
            SendMessage(
                command_id=self.command(),
                parts=(Text(message),),
                busy=busy,
                options=TurnOptions(max_steps=max_steps),
            )
        )

    async def interrupt(self) -> Applied:
        """Stop the turn."""
        return await self.apply(Interrupt(command_id=self.command()))

    async def compact(self) -> Applied:
        """Ask for a compaction."""
        return await self.apply(RequestCompaction(command_id=self.command()))

    async def retry(self) -> Applied:
        """Retry the failed turn."""
        return await self.apply(RetryTurn(command_id=self.command()))

    async def edit(self, position: int, message: str) -> Applied:
        """Replace a user's message."""
        return await self.apply(
            EditMessage(command_id=self.command(), position=position, parts=(Text(message),))
        )

    async def submit(self, *outputs: str) -> Applied:
        """Answer the open client calls, in order."""
        calls = [call for call in self.state.calls if call.executor is Executor.CLIENT]
        results = tuple(
            SubmittedResult(call.id, output, is_json=False)
            for call, output in zip(calls, outputs, strict=True)
        )
        return await self.apply(SubmitToolResults(command_id=self.command(), results=results))

    async def until(self, status: Status) -> ChatState:
        """Wait until the chat has this status."""
        await self.world.when(lambda: self.state.status is status)
        return self.state

    async def ended(self) -> ChatState:
        """Wait until no turn is open and its run has ended."""
        await self.world.when(lambda: self.state.status in {Status.WAITING, Status.ERROR})
        return self.state

    async def events(self) -> Sequence[LoggedEvent]:
        """Return the whole log."""
        page = await self.world.store.events(self.id, after=0, limit=1000, bytes_max=1 << 30)
        return page.events

    async def messages(self) -> Sequence[Message]:
        """Return the history."""
        found, _ = await self.world.store.messages(
            self.id, after_position=0, limit=1000, bytes_max=1 << 30
        )
        return found

    async def transcript(self) -> str:
        """Return the log as text."""
        return transcript(await self.events(), self.state)

    async def history(self) -> list[str]:
        """Return the history as text."""
        return [line for message in await self.messages() for line in message_lines(message)]

    async def history_texts(self) -> list[str]:
        """Return the text of each message, its parts joined."""
        return [
            "".join(part.text for part in message.parts if isinstance(part, Text))
            for message in await self.messages()
        ]
