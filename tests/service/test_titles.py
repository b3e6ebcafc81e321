"""Titles that a model writes when it is asked to."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.agent.titles.settings import TitleSettings
from chatd_server.agent.titles.write import (
    ATTEMPTS_MAX,
    EXCERPT_CHARACTERS_MAX,
    TITLE_SECONDS,
    excerpt,
)
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.ids import ChatId, MessageId, OwnerId, TurnId
from chatd_server.domain.message import Message, Role, Text, Visibility
from chatd_server.domain.refusal import TitleFailed
from chatd_server.domain.title import TITLE_BYTES_MAX, first_words, tidied
from chatd_server.ports.models import Purpose
from chatd_server.service.titles import Titles
from tests.kit.script import MODEL, Gate, ScriptedModel, text
from tests.kit.server import Served, said, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A server with an empty database."""
    async with serving(tmp_path) as server:
        yield server


async def made(served: Served, words: str = "why is the sky blue today?") -> chat_pb2.Chat:
    """Create a chat and wait for its first turn."""
    request = pb.CreateChatRequest(title="mine", message=said(words))
    chat: chat_pb2.Chat = (await served.call("CreateChat", request)).chat
    await served.settled(chat.chat_id)
    return chat


async def owner_of(served: Served, chat: chat_pb2.Chat) -> OwnerId:
    """Return who owns a chat of the root key."""
    return (await served.app.database.store.load(ChatId(chat.chat_id))).owner_id


def titles(served: Served, model: ScriptedModel) -> Titles:
    """Return the use case with a scripted model."""
    settings = TitleSettings(model=MODEL)
    return Titles(served.app.database.store, served.clock, model, settings, MODEL)


async def test_a_title_is_written_from_what_was_said(served: Served) -> None:
    """The chat has it, the log says so, and no turn and no message came of it."""
    chat = await made(served)
    before = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat.chat_id))
    request = pb.RegenerateTitleRequest(chat_id=chat.chat_id, request_id=str(uuid.uuid4()))
    told = await served.call("RegenerateTitle", request)
    assert told.chat.title == "About why is the sky"
    assert told.chat.status == chat_pb2.CHAT_STATUS_WAITING
    page = await served.call("ListEvents", pb.ListEventsRequest(chat_id=chat.chat_id))
    assert page.events[-1].sequence == told.sequence
    assert page.events[-1].chat_updated.title == told.chat.title
    after = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat.chat_id))
    assert after.messages == before.messages
    assert await served.call("RegenerateTitle", request) == told


async def test_nothing_said_is_nothing_to_title(served: Served) -> None:
    """Refused with a reason; so is a title for an archived chat."""
    empty = (await served.call("CreateChat", pb.CreateChatRequest())).chat
    request = pb.RegenerateTitleRequest(chat_id=empty.chat_id)
    assert (await served.refused("RegenerateTitle", request)).reason == "NOTHING_TO_TITLE"
    chat = await made(served)
    await served.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.chat_id))
    request = pb.RegenerateTitleRequest(chat_id=chat.chat_id)
    assert (await served.refused("RegenerateTitle", request)).reason == "CHAT_ARCHIVED"


async def test_a_title_is_written_while_a_turn_is_open(served: Served) -> None:
    """It is no turn, so it waits for none and disturbs none."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("!stall 60")))
    request = pb.RegenerateTitleRequest(chat_id=created.chat.chat_id)
    assert (await served.call("RegenerateTitle", request)).chat.title == "About !stall 60"


async def test_a_title_that_a_person_sets_meanwhile_stays(served: Served) -> None:
    """The model was asked before, and answered after."""
    chat = await made(served)
    model, gate = ScriptedModel(), Gate()
    model.says(gate, text("Too late"))
    asked = asyncio.ensure_future(
        titles(served, model).regenerate(await owner_of(served, chat), chat.chat_id)
    )
    await gate.reached()
    update = pb.UpdateChatRequest(chat=chat_pb2.Chat(chat_id=chat.chat_id, title="my own"))
    update.chat_id = chat.chat_id
    await served.call("UpdateChat", update)
    gate.open()
    assert (await asked).state.config.title == "my own"


async def test_a_model_that_stutters_is_asked_again(served: Served) -> None:
    """A short retry; what the model is asked holds the conversation and no tools."""
    chat = await made(served)
    model = ScriptedModel()
    model.fails(ErrorKind.OVERLOADED)
    model.says(text(' \n"Colours  of\tthe sky"\nand more'))
    asked = asyncio.ensure_future(
        titles(served, model).regenerate(await owner_of(served, chat), chat.chat_id)
    )
    await served.clock.advance_to("title retry")
    assert (await asked).state.config.title == "Colours of the sky"
    request = model.requests[-1]
    assert (request.purpose, request.tools) == (Purpose.TITLE, ())
    (quoted,) = request.messages
    assert isinstance(quoted.parts[0], Text)
    assert quoted.parts[0].text.startswith("User: why is the sky blue today?\nAssistant: ")


@pytest.mark.parametrize("kind", [ErrorKind.AUTH, ErrorKind.OVERLOADED])
async def test_a_model_that_fails_leaves_the_title(served: Served, kind: ErrorKind) -> None:
    """The refusal says why; the chat is as it was."""
    chat = await made(served)
    model = ScriptedModel()
    model.fails(kind, times=ATTEMPTS_MAX)
    asked = asyncio.ensure_future(
        titles(served, model).regenerate(await owner_of(served, chat), chat.chat_id)
    )
    if kind is ErrorKind.OVERLOADED:
        for _ in range(ATTEMPTS_MAX - 1):
            await served.clock.advance_to("title retry")
    with pytest.raises(TitleFailed, match="gave no title: the model failed"):
        await asked
    found = await served.call("GetChat", pb.GetChatRequest(chat_id=chat.chat_id))
    assert found.chat.title == "mine"


async def test_a_model_that_hangs_is_given_up(served: Served) -> None:
    """Whoever waits for a title waits for a bounded time."""
    chat = await made(served)
    model, gate = ScriptedModel(), Gate()
    model.says(gate, text("Too late"))
    asked = asyncio.ensure_future(
        titles(served, model).regenerate(await owner_of(served, chat), chat.chat_id)
    )
    await gate.reached()
    await served.clock.advance(TITLE_SECONDS)
    with pytest.raises(TitleFailed, match="30 seconds"):
        await asked


def test_an_excerpt_has_the_first_and_the_last_words_and_a_bound() -> None:
    """Long chats cost no more than short ones; what only the model sees is left out."""

    def message(position: int, words: str, seen_by: Visibility = Visibility.BOTH) -> Message:
        role = Role.USER if position % 2 else Role.ASSISTANT
        return Message(
            id=MessageId(str(position)),
            position=position,
            role=role,
            parts=(Text(words),),
            turn_id=TurnId("t"),
            created_at=1,
            sequence=position,
            visibility=seen_by,
        )

    long = [message(n, f"{n} " + "x" * 5_000) for n in range(1, 41)]
    quoted = excerpt(long[:20], long[20:])
    assert quoted.startswith("User: 1 xx")
    assert "\nAssistant: 40 xx" in quoted
    assert len(quoted) <= EXCERPT_CHARACTERS_MAX + quoted.count("\n")
    hidden = [message(1, "summary", Visibility.MODEL), message(2, " \n ")]
    assert excerpt(hidden, ()) == ""


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("hello", "hello"),
        ("  one two\nthree four five six seven", "one two three four five six…"),
        ("\x1b[31mred\x00", "[31mred"),
        ("x" * 100, "x" * 79 + "…"),
        ("\ud83d", "\ufffd"),
        ("", ""),
    ],
)
def test_first_words_are_six_words_and_eighty_characters(words: str, title: str) -> None:
    """Of one line, without what a terminal would obey."""
    assert first_words(words) == title


@pytest.mark.parametrize(
    ("answer", "title"),
    [("“A title”", "A title"), ("# **Bold**\n\nBecause", "Bold"), (' "" \nx', "x"), ("\n", "")],
)
def test_a_models_title_is_its_first_line_without_quotes(answer: str, title: str) -> None:
    """Models decorate, explain and quote."""
    assert tidied(answer) == title


def test_a_title_never_has_more_bytes_than_the_contract_allows() -> None:
    """Eighty characters may have 320 bytes."""
    for title in (first_words("😀" * 100), tidied("😀" * 100)):
        assert len(title.encode()) <= TITLE_BYTES_MAX
        assert title.endswith("…")
