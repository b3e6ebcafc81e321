"""`list_chats`: all pages, and the filters of ListChats."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from chatd.v1 import chat_pb2
from chatd_client import ChatHandle, Client, InvalidRequest, SyncClient
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
    """A page token is valid only with its filters, else the second page is refused."""
    async with Client(served.app.address, served.key) as client:
        for _ in range(60):
            await client.create_chat(labels={"team": "many"})
        chats = [it.chat_id async for it in client.list_chats(labels={"team": "many"})]
        assert len(set(chats)) == len(chats) == 60


async def test_a_status_that_does_not_exist_is_refused(served: Served) -> None:
    """The server refuses it."""
    async with Client(served.app.address, served.key) as client:
        with pytest.raises(InvalidRequest, match="statuses"):
            await anext(client.list_chats(statuses=[99]))  # type: ignore[list-item]  # no status


@pytest.mark.parametrize("labels", [{"team": "a", "u": 7}, {"u": None}, {7: "u"}], ids=str)
async def test_a_label_that_is_no_text_is_named(served: Served, labels: Any) -> None:
    """It is a TypeError that names the label."""
    async with Client(served.app.address, served.key) as client:
        with pytest.raises(TypeError, match=r"the label .*(u|7)"):
            await client.create_chat(labels=labels)
        with pytest.raises(TypeError, match=r"the label .*(u|7)"):
            await anext(client.list_chats(labels=labels))


@pytest.mark.parametrize("chat_id", [None, 7, chat_pb2.Chat()], ids=["none", "int", "chat"])
async def test_a_chat_without_an_id_is_refused_where_it_is_given(
    served: Served, chat_id: Any
) -> None:
    """At once, and not by protobuf at the first call."""
    async with Client(served.app.address, served.key) as client:
        with pytest.raises(TypeError, match="chat_id is "):
            client.chat(chat_id)


async def test_the_recipe_of_the_docs_makes_one_chat_for_each_user(served: Served) -> None:
    """Also when two processes meet the user at the same moment."""
    page = Path(__file__).parents[2] / "docs" / "concepts" / "chats-and-turns.md"
    (code,) = re.findall(r"```python\n(async def chat_of.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {
        "Client": Client,
        "ChatHandle": ChatHandle,
        "uuid5": uuid5,
        "NAMESPACE_URL": NAMESPACE_URL,
    }
    exec(code, names)  # noqa: S102  it is our own page
    chat_of = names["chat_of"]
    async with (
        Client(served.app.address, served.key) as one,
        Client(served.app.address, served.key) as two,
    ):
        made = await asyncio.gather(chat_of(one, "ann"), chat_of(two, "ann"))
        again = await chat_of(two, "ann")
        other = await chat_of(two, "bob")
    assert {it.id for it in made} == {again.id}
    assert other.id != again.id
