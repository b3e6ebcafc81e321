"""A bot that is killed and started again: inside its tool, with the cursor that it had stored, or
inside an answer, with nothing but the id of its request.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, message_pb2, tool_pb2
from chatd_client import ChatHandle, Client, StreamLost, ToolCallContext, tool
from chatd_server.demo.server import ServerProcess
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.service.chores import Chores
from tests.client.bot import book
from tests.kit.server import Served, serving

pytestmark = pytest.mark.timeout(120)

SETTLED = chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED
DAY_SECONDS = 86_400.0
TIMEOUT_SECONDS = 60.0
ROOT = Path(__file__).parents[2]

ASKER = """
import asyncio, os
from chatd_client import Client

async def main():
    async with Client() as client:
        chat = client.chat(os.environ["BOT_CHAT"])
        print(await chat.ask(os.environ["BOT_WORDS"], request_id=os.environ["BOT_REQUEST"]))

asyncio.run(main())
"""


class Bot:
    """Starts the bot of one chat."""

    def __init__(self, address: str, key: str, chat: ChatHandle, home: Path) -> None:
        self._cursor_path = home / "cursor"
        self._environment = {
            **os.environ,
            "CHATD_ADDRESS": address,
            "CHATD_KEY": key,
            "BOT_CHAT": chat.id,
            "BOT_CURSOR": str(self._cursor_path),
        }

    @property
    def cursor(self) -> chat_pb2.Cursor:
        """What it has stored."""
        return chat_pb2.Cursor.FromString(self._cursor_path.read_bytes())

    async def killed_inside_its_tool(self) -> str:
        """Start it, and kill it in the middle of a call; return the call's id."""
        async with self._started("first") as process:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            process.kill()
            await process.wait()
        assert line.startswith("running "), line
        return line.split()[1]

    async def restarted(self) -> list[str]:
        """Start it again, and wait until it ends; return the lines that it said."""
        async with self._started() as process:
            output, _ = await process.communicate()
        return output.decode().splitlines()

    def _started(self, *words: str) -> AbstractAsyncContextManager[Process]:
        return started("-m", "tests.client.bot", *words, environment=self._environment)


@asynccontextmanager
async def started(*command: str, environment: dict[str, str]) -> AsyncIterator[Process]:
    """Start a Python program; it ends with the context."""
    process = await create_subprocess_exec(
        *(sys.executable, *command), cwd=ROOT, env=environment, stdout=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def results_of(chat: ChatHandle) -> list[str]:
    """Return the texts of the results that the model got."""
    return [
        part.tool_result.output_text
        for message in await chat.messages()
        for part in message.parts
        if part.HasField("tool_result")
    ]


async def test_a_bot_that_was_killed_inside_a_tool_runs_it_when_it_is_restarted(
    tmp_path: Path,
) -> None:
    """Its stored cursor is past `action_required`, so no event tells it; it asks. A day is left
    until the deadline: a bot that waited for it would not end in this test.
    """
    server = ServerProcess(tmp_path)
    await server.start()
    async with Client(f"127.0.0.1:{server.port}", server.key) as client:
        chat = await client.create_chat(
            model="sandbox/echo", tools=[book], action_timeout_seconds=DAY_SECONDS
        )
        bot = Bot(client.endpoint.address, server.key, chat, tmp_path)
        call_id = await bot.killed_inside_its_tool()

        pending = await chat.pending_action()
        assert pending is not None
        assert bot.cursor.sequence >= pending.sequence

        assert await bot.restarted() == [f"running {call_id}", "settled"]
        assert await results_of(chat) == ["booked"]
        assert (await chat.get()).status == chat_pb2.CHAT_STATUS_WAITING
    await server.stop()


async def answered(chat: ChatHandle, _: Served) -> None:
    """Answer as another client does."""
    pending = await chat.pending_action()
    assert pending is not None
    (call,) = pending.tool_calls
    result = tool_pb2.ToolResultInput(tool_call_id=call.tool_call_id, output_text="by another")
    await chat.submit_tool_results([result])


async def expired(chat: ChatHandle, served: Served) -> None:
    """Let the deadline pass, from one look of the rescuer to the next."""
    over = asyncio.create_task(drained(chat.follow(until=SETTLED)))
    while not over.done():
        await served.clock.advance_to("rescue")


async def interrupted(chat: ChatHandle, _: Served) -> None:
    """Interrupt the chat."""
    await chat.interrupt()


@pytest.mark.parametrize("ended", [answered, expired, interrupted])
async def test_a_restarted_bot_runs_no_call_that_is_over(
    tmp_path: Path, ended: Callable[[ChatHandle, Served], Awaitable[None]]
) -> None:
    """Another client answered, the deadline passed, or a user interrupted it meanwhile."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[book], action_timeout_seconds=TIMEOUT_SECONDS)
        bot = Bot(served.app.address, served.key, chat, tmp_path)
        await bot.killed_inside_its_tool()
        await ended(chat, served)
        await drained(chat.follow(until=SETTLED))

        assert await bot.restarted() == ["settled"]
        (result,) = await results_of(chat)
        assert result != "booked"


async def test_a_bot_whose_cursor_expired_goes_on_without_it(tmp_path: Path) -> None:
    """The stream fails before any tool begins; the snapshot after it has the call."""
    runs: list[str] = []

    @tool
    async def work(context: ToolCallContext) -> str:
        """Work."""
        runs.append(context.tool_call_id)
        return "worked"

    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[work], action_timeout_seconds=7 * DAY_SECONDS)
        async for _ in client.chat(chat.id).run("!call work {}\n!step\n!say Thank you."):
            pass
        # At once: nothing waits for the clock.
        served.clock._now += round(2 * DAY_SECONDS * MICROSECONDS)
        await Chores(served.app.database.store, served.clock, served.observer, 1).sweep()

        with pytest.raises(StreamLost) as lost:
            await drained(chat.resume(chat_pb2.Cursor(sequence=1)))
        assert (lost.value.reason, runs) == ("CURSOR_EXPIRED", [])
        await drained(chat.resume())
        assert len(runs) == 1
        assert await results_of(chat) == ["worked"]


async def test_a_program_that_was_killed_asks_again_and_gets_its_answer(tmp_path: Path) -> None:
    """It stored nothing, and is killed in the middle of the answer."""
    server = ServerProcess(tmp_path)
    await server.start()
    words = "!say Begun.\n!stall 1\n!say Mine."
    async with Client(f"127.0.0.1:{server.port}", server.key) as client:
        chat = await client.create_chat(model="sandbox/echo")
        environment = {
            **os.environ,
            "CHATD_ADDRESS": client.endpoint.address,
            "CHATD_KEY": server.key,
            "BOT_CHAT": chat.id,
            "BOT_WORDS": words,
            "BOT_REQUEST": str(uuid4()),
        }
        async with (
            started("-c", ASKER, environment=environment),
            aclosing(chat.follow()) as responses,
        ):
            async for response in responses:
                if response.event.message_part.text:
                    break
        async with started("-c", ASKER, environment=environment) as process:
            output, _ = await process.communicate()
        assert output.decode() == "Begun.\nMine.\n"
        said = [it for it in await chat.messages() if it.role == message_pb2.ROLE_USER]
        assert len(said) == 1
    await server.stop()


async def drained(responses: AsyncIterator[chat_service_pb2.SubscribeResponse]) -> None:
    """Read a stream to its end."""
    async for _ in responses:
        pass
