"""The storm: many random chats at once, and servers that are killed meanwhile.

It ends by itself: no chat begins after its time is up, and each has a limited number of turns. One
seed decides everything but the timing (where a kill hits a turn), so a violation carries its
transcript.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.blackbox.calls import Caller, connected
from tests.blackbox.rules import ViolationError, first_of
from tests.blackbox.servers import Server
from tests.blackbox.storm_chat import StormChat
from tests.blackbox.waits import OWED_SECONDS, now, pause

CHATS_AT_ONCE = 4
KILL_SECONDS = (1.5, 6.0)
DOWN_SECONDS = 1.0
CALM_EVERY = 7
"""One in this many pauses between kills is long enough to detect everything that is owed."""
CALM_SECONDS = 2 * OWED_SECONDS


@dataclass
class Storm:
    """One storm on one database."""

    servers: Sequence[Server]
    seed: int
    seconds: float
    told: Callable[["Storm"], None] = lambda _: None
    counted: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=now)

    def __post_init__(self) -> None:
        self.numbers = itertools.count()

    def is_over(self) -> bool:
        return now() - self.began > self.seconds

    async def rage(self) -> None:
        """Run to the end; raise the first violation."""
        async with connected_to(self.servers) as callers:
            implemented = await callers[0].implemented()
            try:
                async with asyncio.TaskGroup() as group:
                    chaos = group.create_task(self._kill_servers())
                    async with asyncio.TaskGroup() as chats:
                        for _ in range(CHATS_AT_ONCE):
                            chats.create_task(self._chats(callers, implemented))
                    chaos.cancel()
            except* ViolationError as violations:
                raise first_of(violations) from None
        for server in self.servers:
            look_at_the_log_of(server)

    async def _chats(self, callers: Sequence[Caller], implemented: set[str]) -> None:
        while not self.is_over():
            # Its own seed, so that other chats do not affect this one.
            number = next(self.numbers)
            choices = random.Random(f"{self.seed} choices {number}")
            chat = StormChat(
                rng=random.Random(f"{self.seed} chat {number}"),
                choose=lambda choices=choices: choices.choice(callers),  # type: ignore[misc]
                implemented=implemented,
                counted=self.counted,
                pieces_promised=len(callers) == 1,
            )
            await chat.live()
            self.told(self)

    async def _kill_servers(self) -> None:
        """Kill servers and start them again, as long as chats begin.

        The end is calm, and sometimes there is a long pause: otherwise the next kill would cut and
        resume a stream that hangs, and hide the defect.
        """
        rng = random.Random(f"{self.seed} kills")
        for number in itertools.count(1):
            calm = number % CALM_EVERY == 0
            await pause(CALM_SECONDS if calm else rng.uniform(*KILL_SECONDS))
            if self.is_over():
                return
            restart = asyncio.create_task(
                self._restart(rng.choice(self.servers), rng.uniform(0, DOWN_SECONDS))
            )
            try:
                await asyncio.shield(restart)
            finally:
                # Also at the end of the storm: nothing else waits for a process that is starting.
                await restart

    async def _restart(self, server: Server, down: float) -> None:
        self.counted["kills"] += 1
        await server.kill()
        look_at_the_log_of(server)
        await pause(down)
        await server.start()


def look_at_the_log_of(server: Server) -> None:
    """Raise a violation for unexpected lines on a server's standard error."""
    complaints = server.complaints()
    if complaints:
        raise ViolationError("on standard error: " + "\n".join(complaints[:5])[:4000])


@asynccontextmanager
async def connected_to(servers: Sequence[Server]) -> AsyncIterator[list[Caller]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(server)) for server in servers]


@asynccontextmanager
async def running(
    home: Path, database_urls: Sequence[str], settings: dict[str, str] | None = None
) -> AsyncIterator[list[Server]]:
    """Start a server for each URL (empty: its own SQLite), and stop all of them at the end."""
    servers = [
        Server(home / f"server{number}", url, settings=settings or {})
        for number, url in enumerate(database_urls)
    ]
    try:
        for server in servers:
            await server.start()
        yield servers
    finally:
        for server in servers:
            await server.stop()
