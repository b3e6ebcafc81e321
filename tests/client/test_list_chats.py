"""`list_chats`: all pages, and the filters of ListChats."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatd.v1 import chat_pb2
from chatd_client import Client, InvalidRequest, SyncClient
from tests.kit.server import Served, serving

WAITING, ERROR = chat_pb2.CHAT_STATUS_WAITING, chat_pb2.CHAT_STATUS_ERROR
FILTERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "none": ({}, {"a", "a and b", "failed"}),
    "a label": ({"labels": {"team": "a"}}, {"a", "a and b"}),
    "all labels": ({"labels": {"team": "a", "kind": "b"}}, {"a and b"}),
    "a status": ({"statuses": [ERROR]}, {"failed"}),
    "any of the statuses": (
        {"statuses": (it for it in (WAITING, ERROR))},
        {"a", "a and b", "failed"},
    ),
    "both": ({"labels": {"team": "a"}, "statuses": [ERROR]}, set()),
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Run a server with three chats."""
    async with serving(tmp_path) as running, Client(running.app.address, running.key) as client:
        await client.create_chat(title="a", labels={"team": "a"})
        await client.create_chat(title="a and b", labels={"team": "a", "kind": "b"})
        failed = await client.create_chat("!error auth", title="failed")
        async for _ in failed.resume():
            pass
        yield running


@pytest.mark.parametrize(("filters", "titles"), FILTERS.values(), ids=FILTERS.keys())
async def test_a_list_has_the_chats_that_the_filters_name(
    served: Served, filters: dict[str, Any], titles: set[str]
) -> None:
    """Every label must be there, and one of the statuses."""
    async with Client(served.app.address, served.key) as client:
        assert {chat.title async for chat in client.list_chats(**filters)} == titles


async def test_the_sync_twin_has_the_filters_too(served: Served) -> None:
    """The same names."""

    def script() -> list[str]:
        with SyncClient(served.app.address, served.key) as client:
            chats = client.list_chats(labels={"kind": "b"}, statuses=[WAITING])
            return [chat.title for chat in chats]

    assert await asyncio.to_thread(script) == ["a and b"]


async def test_a_filter_goes_with_every_page(served: Served) -> None:
    """A page token holds for its filters alone, so a list of several pages would be refused."""
    async with Client(served.app.address, served.key) as client:
        for _ in range(60):
            await client.create_chat(labels={"team": "many"})
        chats = [it.chat_id async for it in client.list_chats(labels={"team": "many"})]
        assert len(set(chats)) == len(chats) == 60


async def test_a_status_that_does_not_exist_is_refused(served: Served) -> None:
    """By the server, in its words."""
    async with Client(served.app.address, served.key) as client:
        with pytest.raises(InvalidRequest, match="statuses"):
            await anext(client.list_chats(statuses=[99]))  # type: ignore[list-item]  # no status
