"""What the embedded store acknowledged survives the death of its process."""

import asyncio
import sys

from chatd_server.domain.chat import Status
from tests.store.conftest import SqliteStores
from tests.store.desk import ANN, Desk, assert_gap_free

STEPS = 200
"""Acknowledged steps before the process is killed."""


async def test_no_acknowledged_step_is_lost_by_a_killed_process(
    sqlite_stores: SqliteStores,
) -> None:
    """A process is killed while it writes: each step that it told of is there, whole, in order; of
    the chain that it was writing there is all or nothing.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store.writing_child",
        str(sqlite_stores.path),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        told = [await child.stdout.readline() for _ in range(STEPS)]
    finally:
        child.kill()
        rest, _ = await child.communicate()
    acknowledged: dict[str, int] = {}
    for line in b"".join([*told, rest]).splitlines(keepends=True):
        if line.endswith(b"\n"):
            chat_id, n = line.split()
            acknowledged[chat_id.decode()] = int(n)

    store = await sqlite_stores.open()

    desk = Desk(store, sqlite_stores.clock)
    page = await store.list_chats(ANN, limit=100)
    assert {chat.id for chat in page.chats} >= set(acknowledged)
    for chat in page.chats:
        texts = await desk.texts(chat.id)
        answers = len(texts) - 1
        assert texts[1:] == [f"answer {n}" for n in range(1, answers + 1)]
        assert answers >= acknowledged.get(chat.id, 0)
        # Made; taken, with an attempt; for each answer itself and the next attempt; given back.
        assert chat.revision == 1 + 2 + 2 * answers + 1
        assert chat.status is Status.PENDING
        assert_gap_free(await desk.log(chat.id), await store.load(chat.id))
