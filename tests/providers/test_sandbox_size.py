"""The sandbox handles any message that the service accepts, with limited work."""

import pytest

from chatd_server.domain.answer_parts import AnswerPart, CallStarted
from chatd_server.domain.limits import STEPS_PER_TURN_MAX, USER_MESSAGE_BYTES_MAX
from chatd_server.domain.message import Message, Role, Text
from chatd_server.ports.models import ModelRequest
from chatd_server.providers.sandbox import SandboxProvider
from chatd_server.providers.sandbox.directives import SEARCH_CHARACTERS_MAX
from chatd_server.providers.sandbox.grammar import DIRECTIVES_MAX, PROBLEMS_MAX
from chatd_server.providers.sandbox.words import count
from chatd_server.providers.settings import ProviderSettings
from tests.kit.clock import ManualClock
from tests.kit.turns import counting_turns
from tests.providers.sandbox_kit import (
    history,
    lines_of,
    message,
    parts_of,
    request,
    stream,
    text_of,
)


def filled(line: str) -> str:
    """Return the largest message of repeated lines."""
    return line * (USER_MESSAGE_BYTES_MAX // len(line))


async def test_only_the_first_of_very_many_bad_lines_are_named() -> None:
    """An author corrects a few lines at a time; nobody reads advice for 170,000 lines."""
    answer = await text_of(filled("!x\n"))

    assert answer.startswith(
        f"I cannot read more than {PROBLEMS_MAX} lines of your message, so I did nothing."
    )
    assert [line for line in answer.splitlines() if line.startswith("Line ")] == [
        f"Line {number}: !x" for number in range(1, PROBLEMS_MAX + 1)
    ]


async def test_misplaced_lines_are_bounded_too() -> None:
    """Valid lines in a wrong place count like the others."""
    answer = await text_of("!finish other\n" * DIRECTIVES_MAX)

    assert answer.count("\nLine ") == PROBLEMS_MAX


async def test_a_message_with_too_many_directives_is_not_played() -> None:
    """The answer gives the limit, and the line that exceeds it."""
    answer = await text_of("hello\n" + "!usage none\n" * (DIRECTIVES_MAX + 1))

    assert f"Line {DIRECTIVES_MAX + 2}: !usage none" in answer
    assert f"a message has at most {DIRECTIVES_MAX} directives" in answer


async def test_as_many_directives_as_there_can_be_are_played() -> None:
    """The limit itself is allowed."""
    assert await lines_of("!usage none\n" * DIRECTIVES_MAX) == (
        ["usage: "] * DIRECTIVES_MAX + ["finish: end_turn"]
    )


def test_the_longest_turn_can_be_written() -> None:
    """A call in each step of the longest turn fits into one message."""
    assert 2 * STEPS_PER_TURN_MAX <= DIRECTIVES_MAX


async def test_a_long_line_that_cannot_be_read_is_shown_shortened() -> None:
    """The beginning is enough to recognise it."""
    (line,) = [
        line
        for line in (await text_of("!" + "x" * 500_000)).splitlines()
        if line.startswith("Line ")
    ]

    assert line == f"Line 1: !{'x' * 199}…"


async def test_a_search_has_a_longest_text() -> None:
    """Its words are repeated in two URLs and three titles."""
    good = await parts_of("!search " + "a" * SEARCH_CHARACTERS_MAX)
    answer = await text_of("!search " + "a" * (SEARCH_CHARACTERS_MAX + 1))

    assert isinstance(good[0], CallStarted)
    assert f"WORDS has at most {SEARCH_CHARACTERS_MAX} characters" in answer


@pytest.mark.parametrize("text", ["", " ", "a", "a b", " a\n\tb ", "ab" * 9, "a " * 9, "  " * 9])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100])
def test_words_are_counted_in_pieces(text: str, piece: int) -> None:
    """Wherever a text is split, its number of words is the same."""
    assert count(text, piece) == len(text.split())


async def first_part(asked: ModelRequest | str) -> AnswerPart:
    """Return the first part of an answer."""
    parts = stream(asked, ManualClock())
    part = await anext(parts)
    await parts.aclose()  # type: ignore[attr-defined]  # it is a generator
    return part


LONG: dict[str, list[Message]] = {
    "a script": list(request(filled("!usage none \n")[: 12 * DIRECTIVES_MAX]).messages),
    "bad lines": list(request(filled("!x\n")).messages),
    "no script": list(request(filled("\n")).messages),
    "a long history": history(*[(Role.USER, "a b ")] * 5_000, (Role.USER, "!say done")),
    "a large history": history((Role.ASSISTANT, filled("a b ")), (Role.USER, "!say done")),
    "many parts": [message(Role.USER, *[Text("a")] * 5_000)],
}


@pytest.mark.parametrize("messages", LONG.values(), ids=LONG.keys())
async def test_parsing_a_large_message_lets_other_tasks_run(messages: list[Message]) -> None:
    """No chat waits while another chat's message is parsed."""
    async with counting_turns() as turns:
        await first_part(ModelRequest(messages))

        assert turns.count > 0


async def test_parsing_a_small_message_does_not_wait() -> None:
    """An ordinary turn needs no thread."""
    async with counting_turns() as turns:
        await first_part(ModelRequest(history((Role.USER, "!say done"))))

        assert turns.count == 0


async def test_a_run_reads_a_large_message_once() -> None:
    """The steps after the first one begin at once."""
    text = "!call lookup\n!step\n!say two\n" + "hello\n" * 20_000
    conversation = SandboxProvider(ProviderSettings(), ManualClock()).model("echo").conversation()
    asked = history((Role.USER, text), (Role.ASSISTANT, "done"), (Role.TOOL, "found"))
    async for _ in conversation.stream(ModelRequest(asked[:1])):
        pass

    async with counting_turns() as turns:
        await anext(aiter(conversation.stream(ModelRequest(asked))))

        assert turns.count == 0
