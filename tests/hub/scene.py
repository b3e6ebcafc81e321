"""Real hubs, driven by hand: only the explorer's actions make something happen.

A `Server` is one process: a hub, the commits that it has not learned of yet, in order, and the
hints on their way to it. Actors are generators (workers, clients that write, another server) and
readers (real streams of the real hub, each with a checking client).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import Status
from chatd_server.domain.command import Command, SetTitle
from chatd_server.domain.ids import Instant
from chatd_server.domain.live import Follow
from chatd_server.domain.refusal import ChatNotFound, CursorExpired, Draining, Refused
from chatd_server.hub.hub import Hub
from chatd_server.hub.overlay import OverlayStatus
from chatd_server.hub.settings import HubSettings
from chatd_server.observe import NullObserver
from chatd_server.ports.store import Applied
from chatd_server.rpc import convert
from chatd_server.rpc.streams.frames import EventFrames
from tests.hub.fingerprint import fingerprint
from tests.hub.model import CHAT, NOW, OWNER, Gate, ModelStore
from tests.hub.witness import Witness

Ready: TypeAlias = Callable[[], bool]
Actor: TypeAlias = Generator[Ready | None, Any, None]

_IGNORED = frozenset({"serialisations", "moves"})
BEAT: Instant = NOW + 3_600_000_000


class StillClock:
    """A clock that stands still: heartbeats are actions of the explorer."""

    def now(self) -> Instant:
        """Return always the same time."""
        return NOW


class HandLoop:
    """The part of an event loop that the hub uses; it runs nothing by itself."""

    def get_debug(self) -> bool:
        """Return False; futures call this."""
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future for the explorer."""
        return asyncio.Future(loop=self)  # type: ignore[arg-type]  # it has all that a future needs

    def create_task(self, coroutine: Any, **_: object) -> "HandLoop":
        """Accept the pulse's timer, and never run it."""
        coroutine.close()
        return self

    def cancel(self) -> None:
        """Cancel a task that never ran."""


@contextmanager
def by_hand() -> Iterator[None]:
    """Let coroutines run without a loop until the context exits."""
    asyncio._set_running_loop(HandLoop())  # type: ignore[arg-type]
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


class Server:
    """One process."""

    def __init__(self, store: ModelStore, *, reads_at_heartbeat: bool) -> None:
        settings = HubSettings(stream_jitter=0.0, reads_at_heartbeat=reads_at_heartbeat)
        self.hub = Hub(store, StillClock(), EventFrames(), settings, NullObserver())  # type: ignore[arg-type]
        self.untold: deque[Applied] = deque()
        self.hints: deque[tuple[int, Status]] = deque()

    @property
    def shown(self) -> tuple[str, int] | None:
        """The attempt that is open here, and its size."""
        chat = self.hub._chats.get(CHAT)
        overlay = None if chat is None else chat.attempts.current
        if overlay is None or overlay.status is not OverlayStatus.OPEN:
            return None
        return overlay.attempt_id, overlay.size


class Scene:
    """One history: a store, servers, actors."""

    def __init__(
        self, *, servers: int = 1, page_max: int = 64, hints_may_be_lost: bool = False
    ) -> None:
        self.store = ModelStore(page_max)
        self.servers = [Server(self.store, reads_at_heartbeat=True) for _ in range(servers)]
        self.hints_may_be_lost = hints_may_be_lost
        self.readers: list[Reader] = []
        self._actors: dict[str, Actor] = {}
        self._waits: dict[str, Ready | None] = {}

    # --- for histories -------------------------------------------------------------------------

    def actor(self, name: str, actor: Actor) -> None:
        """Add an actor; it begins when the explorer lets it."""
        self._actors[name] = actor
        self._waits[name] = None

    def reader(self, follow: Follow | None = None, **settings: Any) -> "Reader":
        """Add a subscriber; it connects when the explorer lets it."""
        reader = Reader(self, f"reader{len(self.readers) + 1}", follow or Follow(), **settings)
        self.readers.append(reader)
        return reader

    def readers_come(self) -> None:
        """Bring every reader up to date before the history begins."""
        with by_hand():
            for reader in self.readers:
                while reader.goes_on():
                    pass

    def write(self, command: Command | Chain, server: int = 0) -> Applied:
        """Commit a command on a server, which learns of it later; the others get a hint."""
        applied = self.store.apply(command)
        self.servers[server].untold.append(applied)
        for other in self.servers:
            if other is not self.servers[server]:
                other.hints.append((applied.state.revision, applied.state.status))
        return applied

    def commit(
        self, command: Command | Chain, server: int = 0
    ) -> Generator[Ready | None, Any, Applied]:
        """Commit, and continue when the server has learned of it."""
        applied = self.write(command, server)
        yield lambda: applied not in self.servers[server].untold
        return applied

    def now(self, command: Command | Chain, server: int = 0) -> Applied:
        """Commit and announce at once, before the history begins."""
        applied = self.store.apply(command)
        self.servers[server].hub.committed(applied)
        return applied

    # --- for the explorer ----------------------------------------------------------------------

    def enabled(self) -> Sequence[str]:
        """Return the possible next actions."""
        actions = [name for name in self._actors if self._may_go_on(name)]
        for number, server in enumerate(self.servers):
            if server.untold:
                actions.append(f"tell {number}")
            if server.hints:
                actions.append(f"hint {number}")
                if self.hints_may_be_lost:
                    actions.append(f"lose {number}")
        for reader in self.readers:
            actions.extend(reader.enabled())
        return actions

    def take(self, action: str) -> None:
        kind, _, argument = action.partition(" ")
        with by_hand():
            if kind == "tell":
                server = self.servers[int(argument)]
                server.hub.committed(server.untold.popleft())
            elif kind == "hint":
                server = self.servers[int(argument)]
                server.hub.hinted(CHAT, *server.hints.popleft())
            elif kind == "lose":
                self.servers[int(argument)].hints.popleft()
            elif kind in self._actors:
                self._go_on(kind)
            else:
                next(it for it in self.readers if it.name == kind).take(argument)

    def finish(self) -> None:
        """Check the end: nothing is owed to any reader, now or after one more event."""
        self._check_level()
        self._goes_on()
        self._check_level()
        for reader in self.readers:
            reader.leave()
        for server in self.servers:
            assert server.hub.stream_count == 0
            assert server.hub.chat_count == (0 if server.shown is None else 1), "a chat is kept"

    def state(self) -> int:
        roots = [self.store, self.servers, self.readers, self._actors, self._waits]
        return fingerprint(roots, skips=_SKIPS, ignored=_IGNORED)

    # --- inside --------------------------------------------------------------------------------

    def _check_level(self) -> None:
        """Check that everything was sent: at once, or by a heartbeat if hints were lost."""
        self.run_dry()
        for server in self.servers:
            assert server.hub.owed() == 0, "a stream waits that has something to send"
        if self.hints_may_be_lost:
            self.beat()
        for reader in self.readers:
            reader.check_level()

    def _may_go_on(self, name: str) -> bool:
        ready = self._waits[name]
        return ready is None or ready()

    def _go_on(self, name: str) -> None:
        try:
            self._waits[name] = next(self._actors[name])
        except StopIteration:
            del self._actors[name], self._waits[name]

    def run_dry(self) -> None:
        """Take all possible actions until none is left, in the order in which they are offered."""
        for _ in range(1000):
            actions = [it for it in self.enabled() if not it.endswith((" cut", " beat"))]
            if not actions:
                return
            self.take(actions[0])
        raise AssertionError("the actions never end")

    def beat(self) -> None:
        """Send a heartbeat on every stream, and take all actions that follow."""
        for reader in self.readers:
            with by_hand():
                reader.beat()
        self.run_dry()

    def _goes_on(self) -> None:
        """Add one more event: a forgotten reader does not get it."""
        if self.store.state.deleted:
            return
        self.write(SetTitle(command_id=self.store.command_id(), title="and on"))
        self.run_dry()


class Reader:
    """One subscriber: a real stream, and a client that checks its responses."""

    def __init__(
        self,
        scene: Scene,
        name: str,
        follow: Follow,
        *,
        server: int = 0,
        cuts: int = 0,
        beats: int = 0,
        leaves: bool = False,
    ) -> None:
        self.name = name
        self.witness = Witness(scene.store, deltas=follow.deltas)
        self._scene = scene
        self._follow = follow
        self._server = scene.servers[server]
        #: How often it may be cut and resume, and get heartbeats; whether it may leave.
        self._cuts, self._beats, self._leaves = cuts, beats, leaves
        self._context = ExitStack()
        self._stream: Any = None
        self._next: Any = None
        self._waits_for: Any = None
        self.is_gone = False
        self.failed: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended, failed, or was left."""
        return self.is_gone or bool(self.witness.ended) or self.failed is not None

    def enabled(self) -> list[str]:
        """Return the possible actions of this reader."""
        if self.is_over:
            return []
        actions = []
        if self._can_step():
            actions.append(f"{self.name} step")
        if self._stream is not None:
            if self._cuts or self._leaves:
                actions.append(f"{self.name} cut")
            if self._beats and self.witness.caught_up:
                actions.append(f"{self.name} beat")
        return actions

    def take(self, what: str) -> None:
        if what == "cut":
            self.leave()
            self.is_gone = not self._cuts
            self._cuts = max(0, self._cuts - 1)
        elif what == "beat":
            self._beats -= 1
            self.beat()
        else:
            self._step()

    def goes_on(self) -> bool:
        """Do one step, if possible; return whether it was."""
        can = not self.is_over and self._can_step()
        if can:
            self._step()
        return can

    def beat(self) -> None:
        """Make a heartbeat due."""
        if self._stream is not None and not self.is_over:
            self._stream.reader.pulse(self._stream.reader.due_at)

    def leave(self) -> None:
        """Cancel the stream at its current place."""
        with by_hand() if not _is_by_hand() else ExitStack():
            if self._next is not None:
                with suppress(asyncio.CancelledError, StopIteration):
                    self._next.throw(asyncio.CancelledError())
                self._next = self._waits_for = None
            self._context.close()
        self._stream = None

    def check_level(self) -> None:
        """Check that nothing is owed to this reader."""
        if self.is_gone:
            return
        if self.failed is not None:
            assert isinstance(self.failed, ChatNotFound | CursorExpired | Draining), self.failed
            return
        status = self._scene.store.state.status
        if self.witness.ended:
            return
        assert not self._scene.store.state.deleted, "the chat is gone, and the stream is not"
        wanted = self._follow.until.name
        if wanted != "FOREVER":
            assert status not in {Status.WAITING, Status.ERROR}, "the stream never ends"
        self.witness.is_level(self._server.shown)

    # --- inside --------------------------------------------------------------------------------

    def _can_step(self) -> bool:
        waits_for = self._waits_for
        return not isinstance(waits_for, asyncio.Future) or waits_for.done()

    def _step(self) -> None:
        """Continue to the next wait or the next response."""
        if self._stream is None:
            return self._subscribe()
        if self._next is None:
            self._next = self._stream.next()
        elif isinstance(self._waits_for, Gate) and self._waits_for.name == "load looks":
            self.witness.server_looks()
        try:
            self._waits_for = self._next.send(None)
        except StopIteration as done:
            self._next = self._waits_for = None
            if done.value is not None:
                self.witness.take(done.value)
            if self.witness.ended:
                self.leave()
        except Refused as error:
            self.failed, self._next, self._waits_for = error, None, None
            self.leave()
        return None

    def _subscribe(self) -> None:
        held = self.witness.cursor
        cursor = self._follow.resume_from if held is None else convert.cursor_from(held)
        self._follow = Follow(cursor, self._follow.until, self._follow.deltas)
        is_snapshot = cursor is None or cursor.snapshot_unfinished
        if held is None and cursor is not None:
            self.witness.sequence = cursor.sequence
        self.witness.subscribes(to_snapshot=is_snapshot)
        try:
            follow = self._server.hub.follow(CHAT, OWNER, self._follow)
            self._stream = self._context.enter_context(follow)
        except Draining as refused:
            self.failed = refused


def _is_by_hand() -> bool:
    return asyncio._get_running_loop() is not None


_SKIPS: frozenset[type] = frozenset({StillClock, EventFrames, HandLoop, HubSettings, Scene})
