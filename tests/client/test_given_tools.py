"""Values that are not tools are refused at once, with what they are and what to do."""

import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from chatd_client import Client, SyncClient, ToolRunner, tool
from tests.client.scripted import scripted_server


def plain(city: str) -> str:
    """Say what the weather is."""
    return city


async def plain_async(city: str) -> str:
    """Say what the weather is."""
    return city


def pieces() -> Iterator[str]:
    """Give a result in pieces."""
    yield "a"


async def pieces_async() -> AsyncIterator[str]:
    """Give a result in pieces."""
    yield "a"


class Weather:
    """Holds what tools share."""

    def __call__(self) -> str:
        return "rain"

    def stream(self) -> Iterator[str]:
        """Give a result in pieces."""
        yield "a"


known = tool(plain)

GIVEN: dict[str, tuple[Any, str]] = {
    "function": ([plain], r"tools\[0\] is the function plain.* @tool .*tool\(plain\)"),
    "the second": ([known, plain_async], r"tools\[1\] is the function plain_async.* @tool "),
    "method": ([Weather().__call__], r"tools\[0\] is the method __call__.* @tool "),
    "generator function": ([pieces], r"tools\[0\] is the function pieces.* @tool "),
    "class": ([Weather], r"tools\[0\] is the class Weather.*tool\("),
    "object": ([Weather()], r"tools\[0\] is an object of the type Weather.*tool\("),
    "name": (["get_weather"], r"tools\[0\] is an object of the type str.*tool\("),
    "a tool alone": (known, r"tools is one tool.*in a list"),
    "a function alone": (plain, "tools is the function plain.*a list"),
}

NO_TOOLS: dict[str, tuple[Any, str]] = {
    "generator function": (pieces, "pieces yields.*return"),
    "async generator function": (pieces_async, "pieces_async yields.*return"),
    "method that yields": (Weather().stream, "stream yields.*return"),
    "class": (Weather, "Weather is a class.*function"),
    "object": (Weather(), "Weather.*has no name.*function"),
    "partial": (functools.partial(plain, "Oslo"), "partial.*has no name.*function"),
    "no function": (5, "5 .*function"),
}


@pytest.mark.parametrize(("given", "words"), GIVEN.values(), ids=GIVEN.keys())
async def test_a_value_that_is_not_a_tool_is_refused_at_once(given: Any, words: str) -> None:
    """It is a mistake of the program: a TypeError, before anything is sent."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        with pytest.raises(TypeError, match=words):
            await client.create_chat(tools=given)
        with pytest.raises(TypeError, match=words):
            client.chat("c", given)
        with pytest.raises(TypeError, match=words):
            ToolRunner(client.chat("c"), given)
        assert service.calls == []


def test_the_sync_twin_refuses_it_too() -> None:
    """No server is needed to say so."""
    with SyncClient("127.0.0.1:1", "chatd_k") as client:
        uses: list[Callable[..., object]] = [
            client.create_chat,
            lambda tools: client.chat("c", tools),
        ]
        for use in uses:
            with pytest.raises(TypeError, match=r"the function plain"):
                use(tools=[plain])


async def test_a_tool_that_the_chat_was_not_created_with_is_warned_of_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """By `resume`, which gets the chat first, or by the first method that gets it."""
    made = await client.create_chat(model="sandbox/echo", tools=[known])
    await made.ask("!say Hello.")
    assert caplog.records == []
    chat = client.chat(made.id, [known, tool(plain_async)])
    async for _ in chat.resume():
        pass
    await chat.ask("!say Hello.")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("chatd_client", logging.WARNING)
    words = f"chat {made.id} was not created with the tool plain_async"
    assert record.getMessage().startswith(words)

    caplog.clear()
    await client.chat(made.id, [tool(plain_async)]).get()
    assert [it.name for it in caplog.records] == ["chatd_client"]


@pytest.mark.parametrize(("function", "words"), NO_TOOLS.values(), ids=NO_TOOLS.keys())
def test_what_cannot_be_a_tool_is_refused_by_the_decorator(function: Any, words: str) -> None:
    """Otherwise it would fail in a run, as an error for the model."""
    with pytest.raises(TypeError, match=words):
        tool(function)
