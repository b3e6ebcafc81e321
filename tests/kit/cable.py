"""The connection from one worker to the store: a test records its calls, and cuts it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from chatd_server.domain.chain import Chain, commands_of
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command
from chatd_server.domain.ids import ChatId, Instant, OwnerId, WorkerId
from chatd_server.domain.message import Message, ToolResult
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.ports.store import Acquisition, Applied, Beat, RequestKey, Store
from tests.kit.clock import ManualClock
from tests.kit.script import Gate

T = TypeVar("T")


class Cable:
    """The part of `Store` that a worker uses. Each call is a job of the clock."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self._store = store
        self._clock = clock
        self._is_cut = False
        #: Names of the calls and commands, in order, without heartbeats and polls. A chain is one.
        self.calls: list[str] = []
        #: How often each command was sent, alone or in a chain.
        self._sent: Counter[str] = Counter()
        #: The same for the calls of an idle worker.
        self.idle: Counter[str] = Counter()
        #: Cut just before this call or command, or before the chain that contains it.
        self.cut_before = ""
        #: Exceptions that calls raise, by name: defects, not a lost database.
        self.breaks: dict[str, Exception] = {}
        #: Runs just before the nth call or command of a name arrives.
        self.meanwhile: dict[tuple[str, int], Callable[[], Awaitable[object]]] = {}
        #: Runs just after it, before its response returns.
        self.afterwards: dict[tuple[str, int], Callable[[], Awaitable[object]]] = {}
        #: Runs before and after each write of a run, and after each acquisition.
        self.at_boundary: Callable[[], Awaitable[object]] | None = None
        #: Where a successful acquisition waits before it returns.
        self.acquired: Gate | None = None
        #: Return the result of a command as a replay, as after a lost response.
        self.forgets_answers = False

    def cut(self) -> None:
        """Block all calls: the process is as good as dead."""
        self._is_cut = True

    def join(self) -> None:
        """Allow all calls again."""
        self._is_cut = False

    async def apply(
        self,
        chat_id: ChatId,
        command: Command | Chain,
        *,
        known: ChatState | None = None,
        request: RequestKey | None = None,
        owner_id: OwnerId | None = None,
    ) -> Applied:
        names = [type(one).__name__ for one in commands_of(command)]
        if isinstance(command, Chain) and command.started:
            names.append("start_calls")
        await self._note(*names)

        async def apply() -> Applied:
            return await self._store.apply(
                chat_id, command, known=known, request=request, owner_id=owner_id
            )

        applied = await self._pass(apply)
        await self._happened(*names)
        return await self._pass(apply) if self.forgets_answers else applied

    async def finish_call(self, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        await self._note("finish_call")
        await self._pass(lambda: self._store.finish_call(chat_id, epoch, result))
        await self._happened("finish_call")

    async def messages(
        self, chat_id: ChatId, *, after_position: int, limit: int, bytes_max: int
    ) -> tuple[Sequence[Message], bool]:
        await self._note("messages")
        return await self._pass(
            lambda: self._store.messages(
                chat_id, after_position=after_position, limit=limit, bytes_max=bytes_max
            )
        )

    async def acquire(self, worker_id: WorkerId, slots: int, lease_seconds: float) -> Acquisition:
        self._count("acquire")
        taken = await self._pass(lambda: self._store.acquire(worker_id, slots, lease_seconds))
        if taken.chats and self.acquired is not None:
            await self.acquired.pass_through()
        if taken.chats:
            await self._cross()
        return taken

    async def heartbeat(
        self, worker_id: WorkerId, held: Sequence[tuple[ChatId, int]], lease_seconds: float
    ) -> Sequence[Beat]:
        self._count("heartbeat")
        return await self._pass(lambda: self._store.heartbeat(worker_id, held, lease_seconds))

    async def rescue(self, worker_id: WorkerId, limit: int) -> int:
        self._count("rescue")
        return await self._pass(lambda: self._store.rescue(worker_id, limit))

    async def expire_actions(self, worker_id: WorkerId, limit: int) -> int:
        self._count("expire_actions")
        return await self._pass(lambda: self._store.expire_actions(worker_id, limit))

    async def next_due(self) -> Instant | None:
        self._count("next_due")
        return await self._pass(self._store.next_due)

    def _count(self, name: str) -> None:
        self.idle[name] += 1
        self._break(name)

    def _break(self, name: str) -> None:
        if name in self.breaks:
            raise self.breaks[name]

    async def _note(self, *names: str) -> None:
        self.calls.append(" + ".join(names))
        for name in names:
            self._sent[name] += 1
            self._break(name)
            happens = self.meanwhile.get((name, self._sent[name]))
            if happens is not None:
                await happens()
            if name == self.cut_before:
                self.cut()
        await self._cross()

    async def _happened(self, *names: str) -> None:
        for name in names:
            happens = self.afterwards.get((name, self._sent[name]))
            if happens is not None:
                await happens()
        await self._cross()

    async def _cross(self) -> None:
        if self.at_boundary is not None:
            await self.at_boundary()
        if self._is_cut:
            raise DatabaseUnavailable("the cable is cut")

    async def _pass(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._is_cut:
            raise DatabaseUnavailable("the cable is cut")
        with self._clock.job():
            return await call()
