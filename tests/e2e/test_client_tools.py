"""Tools of the Python client against a server process."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from chatd.v1 import chat_service_pb2, tool_pb2
from chatd_client import ChatHandle, Client, tool
from chatd_server.demo.server import ServerProcess

pytestmark = pytest.mark.timeout(120)

LONG = 40_000
"""Characters of an argument; above what an event of the log may carry."""


@tool
def count(text: str) -> int:
    """Count characters."""
    return len(text)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """Start a server, and stop it."""
    process = ServerProcess(tmp_path)
    await process.start()
    yield process
    await process.stop()


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    """Connect to the server."""
    async with Client(f"127.0.0.1:{server.port}", server.key) as connected:
        yield connected


async def test_long_arguments_reach_the_tool_whole(client: Client) -> None:
    """`action_required` leaves them out; the runner asks for them."""
    chat = await client.create_chat(model="sandbox/echo", tools=[count])
    texts = ["short", "x" * LONG]
    words = "\n".join(f"!call count {json.dumps({'text': text})}" for text in texts)
    async for _ in chat.run(words):
        pass
    results = [
        part.tool_result.output_json
        for message in await chat.messages()
        for part in message.parts
        if part.HasField("tool_result")
    ]
    assert results == ["5", str(LONG)]


async def test_a_part_of_the_results_survives_a_killed_server(
    server: ServerProcess, client: Client
) -> None:
    """What was acknowledged as kept is kept: the rest completes the step on the next process."""
    chat = await client.create_chat(model="sandbox/echo", tools=[count])
    await chat.send('!call count {"text": "a"}\n!call count {"text": "b"}')
    await settled(chat)
    action = await chat.pending_action()
    assert action is not None
    first, second = (it.tool_call_id for it in action.tool_calls)
    kept = tool_pb2.ToolResultInput(tool_call_id=second, output_text="kept")
    await chat.submit_tool_results([kept], allow_partial=True)

    await server.kill()
    await server.start()

    wanted = await chat.pending_action()
    assert wanted is not None
    assert [it.tool_call_id for it in wanted.tool_calls] == [first]
    await chat.submit_tool_results(
        [tool_pb2.ToolResultInput(tool_call_id=first, output_text="new")]
    )
    await settled(chat)
    results = [
        part.tool_result.output_text
        for message in await chat.messages()
        for part in message.parts
        if part.HasField("tool_result")
    ]
    assert results == ["new", "kept"]


async def settled(chat: ChatHandle) -> None:
    """Wait until the chat waits for somebody."""
    until = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
    async with aclosing(chat.follow(until=until)) as responses:
        async for _ in responses:
            pass
