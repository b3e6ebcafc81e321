"""`watch`: all chats of the caller, across cuts, against a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from chatd.v1 import chat_service_pb2
from chatd_client import Client, InvalidRequest, SyncClient
from tests.kit.server import Served, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Run a server."""
    async with serving(tmp_path) as running:
        yield running


async def test_a_watch_goes_on_after_its_cursor(served: Served) -> None:
    """Of a program that was stopped: what happened meanwhile comes, and nothing twice."""
    async with Client(served.app.address, served.key) as client:
        cursor = ""
        async with aclosing(client.watch()) as watching:
            async for response in watching:
                if response.event.HasField("caught_up"):
                    cursor = response.cursor
                    break
        chat = await client.create_chat("!say Hello.", title="one")
        assert await chat.ask("!say Again.") == "Again."

        seen = [
            (response.chat_id, response.event.sequence)
            async for response in _until_caught_up(client, cursor)
        ]

        assert {chat_id for chat_id, _ in seen} == {chat.id}
        assert [number for _, number in seen] == sorted({number for _, number in seen})


async def _until_caught_up(
    client: Client, cursor: str
) -> AsyncIterator[chat_service_pb2.WatchChatsResponse]:
    async with aclosing(client.watch(cursor)) as watching:
        async for response in watching:
            if response.event.HasField("caught_up"):
                return
            yield response


async def test_the_sync_twin_watches_too(served: Served) -> None:
    """With the same filters."""

    def script() -> list[str]:
        with SyncClient(served.app.address, served.key) as client:
            watching = client.watch(labels={"team": "red"})
            assert next(watching).event.HasField("caught_up")
            client.create_chat(title="blue", labels={"team": "blue"})
            client.create_chat(title="red", labels={"team": "red"})
            found = next(watching)
            watching.close()  # type: ignore[attr-defined]  # it is a generator
            return [found.event.chat_updated.title]

    assert await asyncio.to_thread(script) == ["red"]


async def test_a_cursor_of_another_watch_is_refused(served: Served) -> None:
    """It belongs to its filters."""
    async with Client(served.app.address, served.key) as client:
        async with aclosing(client.watch()) as watching:
            cursor = (await anext(watching)).cursor

        with pytest.raises(InvalidRequest, match="cursor"):
            await anext(client.watch(cursor, labels={"a": "b"}))
