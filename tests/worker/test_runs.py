"""The table of runs."""

import asyncio

from chatd_server.agent.turn.stop import Stop
from chatd_server.domain.ids import ChatId
from chatd_server.worker.runs import Run, Runs

CHAT = ChatId("chat")


async def test_a_chat_may_be_run_again_before_its_last_run_is_gone() -> None:
    """The end of the old run does not remove the new one from the table."""
    runs = Runs()
    first, second = asyncio.Event(), asyncio.Event()

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    old = Run(CHAT, 1, Stop(), asyncio.create_task(wait(first)), 0, 1)
    new = Run(CHAT, 2, Stop(), asyncio.create_task(wait(second)), 0, 2)
    runs.add(old)
    runs.add(new)
    assert len(runs) == 2
    first.set()
    await old.task
    await asyncio.sleep(0)  # noqa: TID251  callbacks of a task run one turn later
    assert len(runs) == 1
    assert runs.get(CHAT) is new
    second.set()
    await runs.ended()
    assert runs.get(CHAT) is None
