"""`text` and `ask`: the answer without its events, right under retries, cuts and other turns."""

import asyncio

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, message_pb2
from chatd_client import Client, SyncClient, Voided, tool
from chatd_client.turn import ShownText
from tests.client.scripted import Script, delta, scripted_server
from tests.kit.server import Served


def piece(text: str, attempt: str = "a") -> event_pb2.ChatEvent:
    """Return a piece of text."""
    return event_pb2.ChatEvent(message_part=event_pb2.MessagePart(attempt_id=attempt, text=text))


def thought(text: str, attempt: str = "a") -> event_pb2.ChatEvent:
    """Return a piece of reasoning."""
    part = event_pb2.MessagePart(attempt_id=attempt, reasoning=text)
    return event_pb2.ChatEvent(message_part=part)


def committed(
    *texts: str, attempt: str = "a", role: message_pb2.Role.ValueType = message_pb2.ROLE_ASSISTANT
) -> event_pb2.ChatEvent:
    """Return a committed message of these texts."""
    parts = [message_pb2.Part(text=message_pb2.TextPart(text=text)) for text in texts]
    message = message_pb2.Message(role=role, attempt_id=attempt, parts=parts)
    event = event_pb2.MessageCommitted(message=message, attempt_id=attempt)
    return event_pb2.ChatEvent(message_committed=event)


RETRY = event_pb2.ChatEvent(retry_scheduled=event_pb2.RetryScheduled(attempt_id="a"))
RESET = event_pb2.ChatEvent(preview_reset=event_pb2.PreviewReset(attempt_id="a"))
CASES = {
    "pieces": ([piece("Hel"), piece("lo"), committed("Hello")], ["Hel", "lo"]),
    "no piece came": ([committed("Hello")], ["Hello"]),
    "the end came with the message": ([piece("Hel"), committed("Hello")], ["Hel", "lo"]),
    "a retry": (
        [piece("Hel"), RETRY, RESET, piece("Hi", "b"), committed("Hi", attempt="b")],
        ["Hel", Voided(), "Hi"],
    ),
    "a reset alone": ([piece("Hel"), RESET, committed("Hi", attempt="b")], ["Hel", Voided(), "Hi"]),
    "another attempt without a word": (
        [piece("Hel"), piece("Hi", "b"), committed("Hi", attempt="b")],
        ["Hel", Voided(), "Hi"],
    ),
    "nothing was shown yet": ([thought("Hm"), RETRY, RESET, piece("Hi", "b")], ["Hi"]),
    "two answers": (
        [
            piece("One"),
            committed("One"),
            committed("result", attempt="t", role=message_pb2.ROLE_TOOL),
            piece("Two", "b"),
            committed("Two", attempt="b"),
        ],
        ["One", "\n\nTwo"],
    ),
    "the second of two is void": (
        [
            committed("One"),
            piece("Tw", "b"),
            RESET,
            piece("Two", "c"),
            committed("Two", attempt="c"),
        ],
        ["One", "\n\nTw", Voided(), "\n\nTwo"],
    ),
    "an answer without text": (
        [committed(""), piece("Two", "b"), committed("Two", attempt="b")],
        ["Two"],
    ),
    "text in two parts": ([piece("On"), piece("e"), committed("O", "ne")], ["On", "e"]),
}


@pytest.mark.parametrize(("events", "pieces"), CASES.values(), ids=CASES.keys())
def test_what_is_shown_adds_up_to_the_answers(
    events: list[event_pb2.ChatEvent], pieces: list[str]
) -> None:
    """Void text is followed by a Voided piece, and the rest is shown once."""
    shown = ShownText()
    assert [text for event in events for text in shown.pieces(event)] == pieces


async def test_ask_returns_an_answer_without_its_void_part(
    served: Served,
) -> None:
    """`ask` returns the committed text, however often the model was called."""
    async with Client(served.app.address, served.key) as client:
        chat = await client.create_chat()
        asked = asyncio.create_task(chat.ask("!say One.\n!error overloaded 2\n!say Two."))
        for _ in range(2):
            await served.clock.advance_to("retry")
        assert await asked == "One.\nTwo."


async def test_the_answer_is_that_of_the_last_step(served: Served) -> None:
    """`text` also yields the text before a call of a tool; `ask` does not return it."""

    @tool
    async def look() -> str:
        """Look."""
        return "seen"

    words = "!say I look.\n!call look {}\n!step\n!say It rains."
    async with Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[look])
        assert await chat.ask(words) == "It rains."
        assert "".join([it async for it in chat.text(words)]) == "I look.\n\nIt rains."


async def test_the_sync_twin_has_both(served: Served) -> None:
    """A script prints as it comes, or takes the whole."""

    def script() -> tuple[str, str]:
        with SyncClient(served.app.address, served.key) as client:
            chat = client.create_chat()
            return chat.ask("!say Hello."), "".join(chat.text("!say Hello."))

    assert await asyncio.to_thread(script) == ("Hello.", "Hello.")


async def test_text_continues_after_a_cut() -> None:
    """A cut inside a word does not change the text, and voids nothing."""
    sent = chat_service_pb2.SendMessageResponse(message=message_pb2.Message(message_id="m"))
    own = committed("question", attempt="", role=message_pb2.ROLE_USER)
    own.message_committed.message.message_id = "m"
    own.message_committed.message.turn_id = "t"
    over = event_pb2.ChatEvent(
        status_changed=event_pb2.StatusChanged(
            turn_id="t",
            status=chat_pb2.CHAT_STATUS_WAITING,
            stop_reason=chat_pb2.STOP_REASON_END_TURN,
        )
    )
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.answer = lambda request: (
            sent
            if isinstance(request, chat_service_pb2.SendMessageRequest)
            else chat_service_pb2.GetChatResponse()
        )
        response = chat_service_pb2.SubscribeResponse
        service.scripts = [
            Script([response(event=own), delta("Hel", at=0)], grpc.StatusCode.UNAVAILABLE),
            Script([delta("lo", at=3), response(event=committed("Hello")), response(event=over)]),
        ]
        assert [it async for it in client.chat("c").text("question")] == ["Hel", "lo"]
