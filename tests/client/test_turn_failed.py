"""A turn that ends in an error raises an exception from `run`, `text` and `ask`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, error_pb2
from chatd_client import ChatHandle, Client, Conflict, SyncChat, SyncClient, TurnFailed, tool
from tests.kit.server import Served


@tool
async def work() -> str:
    """Work."""
    return "worked"


async def ran(chat: ChatHandle, words: str, **options: Any) -> list[str]:
    """Run a turn; return the kinds of its events."""
    return [it.event.WhichOneof("event") or "" async for it in chat.run(words, **options)]


async def collect(
    responses: AsyncIterator[chat_service_pb2.SubscribeResponse], kinds: list[str]
) -> None:
    """Note the kinds of events as they come."""
    async for response in responses:
        kinds.append(response.event.WhichOneof("event") or "")  # noqa: PERF401  up to what it raises


async def printed(chat: ChatHandle, words: str) -> str:
    """Return all pieces of the text."""
    return "".join([piece async for piece in chat.text(words)])


@pytest.mark.parametrize(
    "talk", [ran, printed, lambda chat, words: chat.ask(words)], ids=["run", "text", "ask"]
)
async def test_a_failed_turn_raises_what_failed_and_whether_a_retry_helps(
    client: Client, talk: Callable[[ChatHandle, str], Coroutine[Any, Any, Any]]
) -> None:
    """The exception has the kind, the message and the advice, without the events."""
    chat = await client.create_chat()
    with pytest.raises(TurnFailed) as raised:
        await talk(chat, "!say Hm.\n!error auth")
    failed = raised.value
    assert (failed.kind, failed.retryable, failed.is_queued) == ("AUTH", False, False)
    assert failed.error.kind == error_pb2.ERROR_KIND_AUTH
    assert failed.error.message in str(failed) != ""
    assert failed.turn_id
    with pytest.raises(TurnFailed) as raised:
        await talk(chat, "!error generic retryable=no")
    assert raised.value.kind == "GENERIC"


async def test_every_event_comes_before_the_exception(client: Client) -> None:
    """All events are yielded first, and a program can turn the exception off."""
    chat = await client.create_chat()
    kinds: list[str] = []
    with pytest.raises(TurnFailed):
        await collect(chat.run("!error auth"), kinds)
    assert kinds[-1] == "stream_end"
    assert "status_changed" in kinds
    kinds = await ran(chat, "!error auth", raise_on_error=False)
    assert kinds[-1] == "stream_end"
    assert "status_changed" in kinds


async def test_the_sync_twin_raises_it_too(served: Served) -> None:
    """`run`, `text` and `ask` all do."""

    def script() -> list[str]:
        kinds = []
        forms: list[Callable[[SyncChat, str], object]] = [
            lambda chat, words: list(chat.run(words)),
            lambda chat, words: list(chat.text(words)),
            lambda chat, words: chat.ask(words),
        ]
        with SyncClient(served.app.address, served.key) as client:
            for talk in forms:
                with pytest.raises(TurnFailed) as raised:
                    talk(client.create_chat(), "!error auth")
                kinds.append(raised.value.kind)
            list(client.create_chat().run("!error auth", raise_on_error=False))
            kinds.append(client.create_chat().ask("!say Fine."))
        return kinds

    assert await asyncio.to_thread(script) == ["AUTH", "AUTH", "AUTH", "Fine."]


async def test_an_earlier_failure_is_not_the_failure_of_this_turn(client: Client) -> None:
    """The next message ends ERROR, and has another turn."""
    chat = await client.create_chat()
    await ran(chat, "!error auth", raise_on_error=False)
    assert await chat.ask("!say Better.") == "Better."
    assert "stream_end" in await ran(chat, "!say Better.")


async def test_a_failure_after_this_turn_is_not_its_own(client: Client) -> None:
    """`run` goes on until the chat has settled, so it sees the failure of the next message, which
    is not its own.
    """

    @tool
    async def sends_another() -> str:
        """Let somebody else send a message meanwhile."""
        await client.chat(chat.id).send("!error auth")
        return "sent"

    chat = await client.create_chat(tools=[sends_another])
    kinds = await ran(chat, "!call sends_another {}\n!step\n!say Mine.")
    assert kinds[-1] == "stream_end"
    assert (await chat.get()).status == chat_pb2.CHAT_STATUS_ERROR


async def test_a_message_that_is_held_up_by_a_failed_turn_says_so(
    client: Client, served: Served
) -> None:
    """The turn before it failed, so it stays in the queue, and the exception says so."""
    chat = await client.create_chat()
    await chat.send("!stall 1\n!error auth")
    await served.clock.sleeping("sandbox.stall")
    async with aclosing(chat.run("!say Mine.")) as run:
        assert (await anext(run)).event.HasField("queue_changed")
        await served.clock.advance_to("sandbox.stall")
        with pytest.raises(TurnFailed, match="still queued") as raised:
            await collect(run, [])
    assert (raised.value.kind, raised.value.is_queued) == ("AUTH", True)
    assert (await chat.get()).queued_message_count == 1


async def test_a_queued_message_is_followed_to_the_end_of_its_own_turn(client: Client) -> None:
    """A message that is sent during a turn is answered by its own turn."""
    chat = await client.create_chat(tools=[work])
    by_hand = client.chat(chat.id)
    await ran(by_hand, "!call work {}\n!step\n!say Theirs.")
    asked = asyncio.create_task(chat.ask("!say Mine."))
    assert await asked == "Mine."


async def test_an_interrupt_is_no_error(client: Client) -> None:
    """The part of the answer so far is returned."""
    chat = await client.create_chat(tools=[])

    async def talk() -> str:
        words = ""
        async for piece in chat.text("!say Begun.\n!stall 100\n!say Never."):
            words += piece
            await chat.interrupt()
        return words

    assert await talk() == "Begun."
    assert (await chat.get()).stop_reason == chat_pb2.STOP_REASON_INTERRUPTED


@pytest.mark.parametrize("talk", [printed, lambda chat, words: chat.ask(words)])
async def test_a_handle_without_the_tools_that_are_wanted_raises(
    client: Client, talk: Callable[[ChatHandle, str], Coroutine[Any, Any, Any]]
) -> None:
    """Without the tools there will be no answer, and an empty one would be wrong."""
    chat = await client.create_chat(tools=[work])
    with pytest.raises(Conflict, match="client tools"):
        await talk(client.chat(chat.id), "!say Hm.\n!call work {}")


async def test_the_text_of_a_refusal_is_the_answer(client: Client) -> None:
    """A model that refuses says why; this is not a failure."""
    chat = await client.create_chat()
    assert await chat.ask("!refuse I would rather not.") == "I would rather not."
    assert await printed(chat, "!refuse I would rather not.") == "I would rather not."


async def test_a_model_without_a_key_raises_when_it_is_asked(client: Client) -> None:
    """The server has no key for the vendor, and says so."""
    chat = await client.create_chat(model="anthropic/claude-sonnet-4-6")
    with pytest.raises(TurnFailed, match="key") as raised:
        await chat.ask("hello")
    assert raised.value.kind == "MISSING_KEY"
