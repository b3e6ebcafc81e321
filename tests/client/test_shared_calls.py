"""Programs that share the calls of a step, and a call that no program has a tool for."""

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path

import pytest

from chatd.v1 import chat_service_pb2, message_pb2
from chatd_client import ChatHandle, Client, ToolRunner, tool
from tests.kit.server import serving

WORDS = "!call left {}\n!call right {}\n!step\n!say Thank you."


@tool
def left() -> str:
    """Answer for one program."""
    return "the left one"


@tool
def right() -> str:
    """Answer for another program."""
    return "the right one"


async def results(chat: ChatHandle) -> list[message_pb2.ToolResultPart]:
    """Return the results of the history, in order."""
    return [
        part.tool_result
        for message in await chat.messages()
        for part in message.parts
        if part.HasField("tool_result")
    ]


async def settled(chat: ChatHandle, *tools: object) -> None:
    """Answer calls of some tools until the chat has settled."""
    until = chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED
    runner = ToolRunner(chat, tools)  # type: ignore[arg-type]
    async with aclosing(runner.follow(until=until)) as responses:
        async for _ in responses:
            pass


async def test_programs_share_the_calls_of_a_step(tmp_path: Path) -> None:
    """Each submits the results of its own tools, in any order."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(WORDS, tools=[left, right])
        await asyncio.gather(settled(chat, left), settled(chat, right))
        assert [(it.output_text, it.is_error) for it in await results(chat)] == [
            ("the left one", False),
            ("the right one", False),
        ]


async def test_a_call_that_no_program_has_is_warned_of_and_waits_for_its_deadline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`ask` waits, because another program may answer. Then the model gets the expiry."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[left, right])
        asked = asyncio.create_task(client.chat(chat.id, [left]).ask(WORDS))
        async with aclosing(chat.follow()) as responses:
            async for response in responses:
                if response.event.HasField("action_required"):
                    action = response.event.action_required.action
                    break
        while (left_open := await chat.pending_action()) and len(left_open.tool_calls) > 1:
            pass
        while not asked.done():
            await served.clock.advance_to("rescue")
        assert await asked == "Thank you."
        assert [it.is_error for it in await results(chat)] == [False, True]
    (warning,) = [it for it in caplog.records if it.name == "chatd_client"]
    until = action.deadline.ToDatetime().isoformat(timespec="seconds")
    assert warning.levelno == logging.WARNING
    for word in (chat.id, "right", "does not have", until):
        assert word in warning.getMessage()
