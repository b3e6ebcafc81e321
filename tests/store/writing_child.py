"""A server that writes until it is killed. Prints each step once it is acknowledged.

Run by test_sqlite_crash as `python -m tests.store.writing_child <file>`.
"""

import asyncio
import sys
from pathlib import Path

from chatd_server.clock import RealClock
from chatd_server.domain.chat import AttemptKind, ChatState
from chatd_server.observe import NullObserver
from chatd_server.store.sqlite.store import SqliteStore
from tests.kit.clock import ManualClock
from tests.store.conftest import HeardHints
from tests.store.desk import W1, Desk

CHATS = 8


async def write(path: Path) -> None:
    """Commit answers with the attempts after them in several chats at once, as fast as it goes."""
    store = await SqliteStore.open(
        path, clock=RealClock(), wake=HeardHints(), observer=NullObserver()
    )
    desk = Desk(store, ManualClock())
    for n in range(CHATS):
        await desk.create(f"{n}")
    taken = (await store.acquire(W1, CHATS, 3600.0)).chats
    await asyncio.gather(*(_work(desk, acquired.state) for acquired in taken))


async def _work(desk: Desk, state: ChatState) -> None:
    n = 0
    while True:
        n += 1
        answer = desk.answer_command(state, f"answer {n}")
        start = desk.start_command(state, AttemptKind.MODEL)
        state = (await desk.chain(state, answer, start)).state
        sys.stdout.write(f"{state.id} {n}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
