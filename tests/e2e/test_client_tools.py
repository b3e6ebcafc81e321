"""Tools of the Python client against a server process."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd_client import Client, tool
from chatd_server.demo.server import ServerProcess

pytestmark = pytest.mark.timeout(120)

LONG = 40_000
"""Characters of an argument; above what an event of the log may carry."""


@tool
def count(text: str) -> int:
    """Count characters."""
    return len(text)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Start a server, connect to it, and stop it."""
    server = ServerProcess(tmp_path)
    await server.start()
    async with Client(f"127.0.0.1:{server.port}", server.key) as connected:
        yield connected
    await server.stop()


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
