"""Results of a client tool after the end of their action, with a real server."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import ChatHandle, Client, ToolRunner, tool
from tests.kit.server import serving

TIMEOUT_SECONDS = 60.0

ASKS_TWICE = "!call count {}\n!step\n!call count {}\n!step\n!say Both were asked."


async def asked_again(chat: ChatHandle) -> None:
    """Wait for the second action of a chat."""
    asked = 0
    async with aclosing(chat.follow(cursor=chat_pb2.Cursor())) as responses:
        async for response in responses:
            asked += response.event.HasField("action_required")
            if asked == 2:
                return


async def test_a_late_result_is_dropped_and_the_next_action_is_answered(tmp_path: Path) -> None:
    """The deadline passed while the tool ran, and the model has asked again: the results fit no
    open call, which is no error of the program.
    """
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        runs: list[str] = []

        @tool
        async def count() -> int:
            """Take longer than the chat waits, the first time."""
            runs.append("run")
            if len(runs) == 1:
                again = asyncio.create_task(asked_again(chat))
                while not again.done():
                    await served.clock.advance_to("rescue")
            return len(runs)

        chat = await client.create_chat(tools=[count], action_timeout_seconds=TIMEOUT_SECONDS)
        await chat.send(ASKS_TWICE)
        async for _ in chat.follow(until=chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED):
            pass
        runner = ToolRunner(chat)
        for _ in range(2):
            pending = await chat.pending_action()
            assert pending is not None
            await runner.answer(pending)

        async for _ in chat.follow(until=chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED):
            pass
        results = [
            part.tool_result.output_json or "expired"
            for message in await chat.messages()
            for part in message.parts
            if part.HasField("tool_result")
        ]
        assert results == ["expired", "2"]
