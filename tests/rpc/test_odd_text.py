"""Unusual text: what is accepted comes back unchanged, on every database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, said, serving

NUL = "a\x00b"


@pytest.fixture(params=["sqlite", "postgres"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """Start a server on each database."""
    settings: dict[str, object] = {}
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        settings = {"database_url": url, "migrate": True}
    async with serving(tmp_path, **settings) as it:
        yield it


async def text_of_the_first_message(served: Served, chat_id: str) -> str:
    """Return what the log and the history say, which must be the same."""
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    events = await served.call("ListEvents", pb.ListEventsRequest(chat_id=chat_id))
    logged = [
        it.message_committed.message for it in events.events if it.HasField("message_committed")
    ]
    assert logged[0].parts == listed.messages[0].parts
    return str(listed.messages[0].parts[0].text.text)


@pytest.mark.parametrize(
    "text",
    ["\u200b", "\x00", NUL, "\ufeff", "\u00ad", "\x1b", " \u200b "],
    ids=["zero width", "NUL", "NUL inside", "BOM", "soft hyphen", "ESC", "between blanks"],
)
async def test_what_is_not_white_space_is_a_message(served: Served, text: str) -> None:
    """Invisible characters are not white space; nothing is trimmed or normalised."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said(text)))
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    assert await text_of_the_first_message(served, chat_id) == text
    sent = await served.call(
        "SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said(text))
    )
    assert sent.message.parts[0].text.text == text


async def test_a_message_of_white_space_is_refused(served: Served) -> None:
    """What Unicode calls white space, and the four separators of ASCII."""
    for text in (" ", "\t\r\n", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c\x1d\x1e\x1f"):
        request = pb.CreateChatRequest(message=said(text))
        refusal = await served.refused("CreateChat", request)
        assert (text, refusal.reason, refusal.fields) == (text, "INVALID_FIELD", ["message.parts"])


async def test_nul_is_text_everywhere(served: Served) -> None:
    """A database whose own text type cannot store it keeps it too."""
    request = pb.CreateChatRequest(title=NUL, system_prompt=NUL, labels={"k": NUL})
    chat = (await served.call("CreateChat", request)).chat
    assert (chat.title, chat.labels["k"]) == (NUL, NUL)
    found = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat.chat_id))).chat
    assert found == chat
    asked = pb.ListChatsRequest(labels={"k": NUL})
    assert list((await served.call("ListChats", asked)).chats) == [chat]
    await served.call("ListPendingActions", pb.ListPendingActionsRequest(tool_names=[NUL]))
    forged = pb.ListChatsRequest(page_token=NUL)
    assert (await served.refused("ListChats", forged)).fields == ["page_token"]
    for chat_id in (NUL, f"{chat.chat_id}\x00"):
        refusal = await served.refused("GetChat", pb.GetChatRequest(chat_id=chat_id))
        assert refusal.reason == "CHAT_NOT_FOUND"
