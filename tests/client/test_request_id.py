"""Writes with a request id of the program: done once, however often they are sent.

A program that crashed sends the same again, and gets the result that it missed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd_client import (
    ChatHandle,
    Client,
    Conflict,
    InvalidRequest,
    StreamLost,
    SyncClient,
    TurnFailed,
    tool,
)
from chatd_client.turn import text_of
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.service.chores import Chores
from tests.kit.server import Served, serving

HOUR_SECONDS = 3600
STALLED = "!say Mine.\n!stall 1\n!say All mine."
CALL = "!call work {}\n!step\n!say Mine."


@tool
async def work() -> str:
    """Work."""
    return "worked"


@pytest.fixture
def request_id() -> str:
    """Return a new request id."""
    return str(uuid4())


async def asked(chat: ChatHandle, words: str, **options: Any) -> str:
    """Return what `ask` returns."""
    return await chat.ask(words, **options)


async def printed(chat: ChatHandle, words: str, **options: Any) -> str:
    """Return all pieces of `text`."""
    return "".join([piece async for piece in chat.text(words, **options)])


async def ran(chat: ChatHandle, words: str, **options: Any) -> str:
    """Return the answers in the events of `run`."""
    return "".join(
        [
            text_of(it.event.message_committed.message)
            async for it in chat.run(words, **options)
            if it.event.message_committed.message.role == message_pb2.ROLE_ASSISTANT
        ]
    )


Talk = Callable[..., Awaitable[str]]
each_way = pytest.mark.parametrize("talk", [asked, printed, ran])


async def said_by_users(chat: ChatHandle) -> list[str]:
    """Return the messages of users in the history."""
    return [text_of(it) for it in await chat.messages() if it.role == message_pb2.ROLE_USER]


async def settled(chat: ChatHandle) -> None:
    """Wait until the chat has settled."""
    async for _ in chat.resume():
        pass


# --- the turn of the message, wherever the chat stands now ---------------------------------


@each_way
async def test_a_repeat_gives_the_answer_of_a_turn_that_is_over(
    client: Client, request_id: str, talk: Talk
) -> None:
    """The message is sent once, and later turns are not yielded."""
    chat = await client.create_chat()
    await chat.send("!say Mine.", request_id=request_id)
    assert await chat.ask("!say Theirs.") == "Theirs."
    for _ in range(2):
        assert await talk(chat, "!say Mine.", request_id=request_id) == "Mine."
    assert await said_by_users(chat) == ["!say Mine.", "!say Theirs."]


@each_way
async def test_a_repeat_does_not_wait_for_a_later_turn(
    client: Client, served: Served, request_id: str, talk: Talk
) -> None:
    """A later turn is open and does not move, because the clock is held."""
    chat = await client.create_chat()
    assert await chat.ask("!say Mine.", request_id=request_id) == "Mine."
    await chat.send(STALLED)
    await served.clock.sleeping("sandbox.stall")
    assert await talk(chat, "!say Mine.", request_id=request_id) == "Mine."


@each_way
async def test_a_repeat_follows_a_turn_that_is_running(
    client: Client, served: Served, request_id: str, talk: Talk
) -> None:
    """The first call died in the middle of the answer; the second gets all of it."""
    chat = await client.create_chat()
    await chat.send(STALLED, request_id=request_id)
    await served.clock.sleeping("sandbox.stall")
    again = asyncio.ensure_future(talk(chat, STALLED, request_id=request_id))
    await served.clock.advance_to("sandbox.stall")
    assert await again == "Mine.\nAll mine."
    assert await said_by_users(chat) == [STALLED]


@each_way
@pytest.mark.parametrize("is_promoted", [True, False], ids=["promoted", "still queued"])
async def test_a_repeat_follows_a_message_that_was_queued(
    client: Client, served: Served, request_id: str, talk: Talk, is_promoted: bool
) -> None:
    """The stored response says that it is queued, which it may not be any more."""
    chat = await client.create_chat("!stall 1\n!say Theirs.")
    await served.clock.sleeping("sandbox.stall")
    first = await chat.send("!say Mine.", request_id=request_id)
    assert first.queued_message.message_id
    if is_promoted:
        await served.clock.advance_to("sandbox.stall")
        await settled(chat)
        assert await chat.ask("!say Later.") == "Later."
    again = asyncio.ensure_future(talk(chat, "!say Mine.", request_id=request_id))
    if not is_promoted:
        await served.clock.advance_to("sandbox.stall")
    # `run` tells of the turn before, too, when it is not over yet, for the message waits for it.
    assert (await again).removeprefix("Theirs.") == "Mine."
    assert (await said_by_users(chat)).count("!say Mine.") == 1


@each_way
async def test_a_repeat_raises_what_its_own_turn_raised(
    client: Client, request_id: str, talk: Talk
) -> None:
    """Also when a later turn went well."""
    chat = await client.create_chat()
    for _ in range(2):
        with pytest.raises(TurnFailed) as raised:
            await talk(chat, "!error auth", request_id=request_id)
        assert (raised.value.kind, raised.value.is_queued) == ("AUTH", False)
        assert await chat.ask("!say Better.") == "Better."
    assert (await said_by_users(chat)).count("!error auth") == 1


@each_way
async def test_a_repeat_answers_the_call_that_its_turn_waits_for(
    client: Client, request_id: str, talk: Talk
) -> None:
    """The first call died before its tool had a result."""
    chat = await client.create_chat(tools=[work])
    await client.chat(chat.id).send(CALL, request_id=request_id)
    await settled(client.chat(chat.id))
    assert await talk(chat, CALL, request_id=request_id) == "Mine."


@each_way
async def test_a_repeat_runs_no_tool_of_a_later_turn(
    client: Client, request_id: str, talk: Talk
) -> None:
    """The sender of the later message runs it. The log of this turn has a call, too."""
    runs: list[str] = []

    @tool
    async def work() -> str:
        """Work."""
        runs.append("run")
        return "worked"

    chat = await client.create_chat(tools=[work])
    assert await chat.ask(CALL, request_id=request_id) == "Mine."
    await chat.send(CALL)
    await settled(client.chat(chat.id))
    assert await chat.pending_action() is not None
    assert await talk(chat, CALL, request_id=request_id) == "Mine."
    assert runs == ["run"]


@each_way
async def test_a_repeat_whose_events_are_gone_says_where_the_answer_is(
    client: Client, served: Served, request_id: str, talk: Talk
) -> None:
    """With a retention, the log begins after the message; the history is complete."""
    chat = await client.create_chat()
    assert await chat.ask("!say Mine.", request_id=request_id) == "Mine."
    # At once: nothing waits for the clock.
    served.clock._now += HOUR_SECONDS * MICROSECONDS
    await Chores(served.app.database.store, served.clock, served.observer, 0.01).sweep()

    with pytest.raises(StreamLost, match=r"was sent.*messages\(\)") as lost:
        await talk(chat, "!say Mine.", request_id=request_id)
    assert lost.value.reason == "CURSOR_EXPIRED"
    assert lost.value.metadata["oldest_sequence"]
    assert await said_by_users(chat) == ["!say Mine."]


async def test_every_event_of_the_turn_comes_again(client: Client, request_id: str) -> None:
    """`run` with a request id begins with the message and ends with the end of its turn."""
    chat = await client.create_chat()
    first = [it.event async for it in chat.run("!say Mine.", request_id=request_id)]
    await chat.ask("!say Theirs.")
    again = [it.event async for it in chat.run("!say Mine.", request_id=request_id)]
    assert [it for it in again if it.sequence] == [it for it in first if it.sequence]
    assert again[0].message_committed.message.role == message_pb2.ROLE_USER
    assert again[-1].status_changed.stop_reason == chat_pb2.STOP_REASON_END_TURN


async def test_a_repeat_gives_its_own_answer_on_postgresql(
    tmp_path: Path, postgres_url: str
) -> None:
    """The other database stores the same response."""
    async with (
        serving(tmp_path, database_url=postgres_url, migrate=True) as served,
        Client(served.app.address, served.key) as client,
    ):
        chat = await client.create_chat("!stall 1\n!say Theirs.")
        await served.clock.sleeping("sandbox.stall")
        queued, placed = str(uuid4()), str(uuid4())
        assert (await chat.send("!say One.", request_id=queued)).HasField("queued_message")
        await served.clock.advance_to("sandbox.stall")
        await settled(chat)
        assert (await chat.send("!say Two.", request_id=placed)).HasField("message")
        assert await chat.ask("!say Later.") == "Later."
        assert await chat.ask("!say One.", request_id=queued) == "One."
        assert await chat.ask("!say Two.", request_id=placed) == "Two."


# --- writes without a turn to follow -------------------------------------------------------


async def test_a_chat_is_created_once(client: Client, request_id: str) -> None:
    """The handle of the second call is of the same chat."""
    first, second = [
        await client.create_chat("!say Mine.", title="t", request_id=request_id) for _ in range(2)
    ]
    assert first.id == second.id
    assert [it.chat_id async for it in client.list_chats()] == [first.id]


async def test_a_repeated_interrupt_cuts_no_later_turn(
    client: Client, served: Served, request_id: str
) -> None:
    """It returns the first response, and does nothing."""
    chat = await client.create_chat(STALLED)
    await served.clock.sleeping("sandbox.stall")
    assert await chat.interrupt(request_id=request_id)
    await settled(chat)
    await chat.send(STALLED)
    await served.clock.sleeping("sandbox.stall")
    assert await chat.interrupt(request_id=request_id)
    await served.clock.advance_to("sandbox.stall")
    await settled(chat)
    assert (await chat.get()).stop_reason == chat_pb2.STOP_REASON_END_TURN


WRITES: dict[str, Callable[[Client, ChatHandle, str], Awaitable[object]]] = {
    "create_chat": lambda client, _, it: client.create_chat(request_id=it),
    "send": lambda _, chat, it: chat.send("hello", request_id=it),
    "interrupt": lambda _, chat, it: chat.interrupt(request_id=it),
    "ask": lambda _, chat, it: chat.ask("hello", request_id=it),
    "text": lambda _, chat, it: printed(chat, "hello", request_id=it),
    "run": lambda _, chat, it: ran(chat, "hello", request_id=it),
    "submit_tool_results": lambda _, chat, it: chat.submit_tool_results(
        [tool_pb2.ToolResultInput(tool_call_id="1", output_text="x")], request_id=it
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_request_id_that_is_no_uuid_is_refused_in_words(
    client: Client, write: Callable[[Client, ChatHandle, str], Awaitable[object]]
) -> None:
    """The field is named; nothing is sent."""
    chat = await client.create_chat()
    with pytest.raises(InvalidRequest, match="UUID") as raised:
        await write(client, chat, "order 66")
    assert [field for field, _ in raised.value.violations] == ["request_id"]
    assert await chat.messages() == []


async def test_a_request_id_is_for_one_message(client: Client, request_id: str) -> None:
    """Another message with the same id is a mistake of the program."""
    chat = await client.create_chat()
    await chat.ask("!say Mine.", request_id=request_id)
    with pytest.raises(Conflict) as raised:
        await chat.ask("!say Another.", request_id=request_id)
    assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_the_sync_twin_takes_request_ids_too(served: Served) -> None:
    """Each write is sent twice and done once."""

    def twice(write: Callable[..., Any]) -> list[Any]:
        request_id = str(uuid4())
        return [write(request_id=request_id) for _ in range(2)]

    def script() -> None:
        with SyncClient(served.app.address, served.key) as client:
            chat, same = twice(partial(client.create_chat, tools=[work]))
            assert same.id == chat.id
            assert twice(partial(chat.ask, "!say Mine.")) == ["Mine."] * 2
            texts = twice(partial(chat.text, "!say Mine."))
            assert ["".join(it) for it in texts] == ["Mine."] * 2
            runs = [list(it) for it in twice(partial(chat.run, "!say Mine."))]
            begins, again = (it[0].event.message_committed.message.message_id for it in runs)
            assert again == begins != ""

            by_hand = client.chat(chat.id)
            sent, again = twice(partial(by_hand.send, CALL))
            assert again.message.message_id == sent.message.message_id
            list(by_hand.resume())
            pending = by_hand.pending_action()
            assert pending is not None
            (call,) = pending.tool_calls
            result = tool_pb2.ToolResultInput(tool_call_id=call.tool_call_id, output_text="worked")
            first, second = twice(partial(by_hand.submit_tool_results, [result]))
            assert first.sequence == second.sequence
            list(by_hand.resume())
            assert twice(by_hand.interrupt) == [False, False]
            said = [text_of(it) for it in chat.messages() if it.role == message_pb2.ROLE_USER]
            assert said == ["!say Mine."] * 3 + [CALL]

    await asyncio.to_thread(script)
