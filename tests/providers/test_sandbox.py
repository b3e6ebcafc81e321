"""The sandbox: its own texts, the choice of the next answer, and its determinism."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd_server.domain.answer_parts import Delta, Finished, ProviderResult, WholePart
from chatd_server.domain.failure import ModelFailure
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    Executor,
    FileReference,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
)
from chatd_server.domain.refusal import ModelNotFound
from chatd_server.ports.models import ModelRequest, Purpose
from chatd_server.ports.tools import ToolSpec
from chatd_server.providers.sandbox import SandboxProvider
from chatd_server.providers.sandbox.directives import DIRECTIVES
from chatd_server.providers.sandbox.grammar import parse
from chatd_server.providers.sandbox.words import tokens
from chatd_server.providers.settings import ProviderSettings
from tests.kit.clock import ManualClock
from tests.providers.sandbox_kit import (
    history,
    lines_of,
    message,
    parts_of,
    provider_call,
    stream,
    text_of,
    tool_result,
)

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "sandbox.md"


# --- its own texts -------------------------------------------------------------------------


async def test_without_directives_it_repeats_the_words_and_names_the_directives() -> None:
    """The first answer that a client's author sees explains the next steps."""
    tools = (ToolSpec("current_time", "", "{}"), ToolSpec("get_weather", "", "{}"))
    asked = ModelRequest(history((Role.USER, "Grüß dich!\nWhat can you do?")), tools=tools)

    assert await text_of(asked) + "\n" == (GOLDEN / "sandbox_echo.txt").read_text("utf-8")


async def test_attachments_are_named() -> None:
    """A client's author sees that attachments arrived."""
    asked = ModelRequest([message(Role.USER, FileReference("a.py", 3), FileReference("b.py"))])

    assert (await text_of(asked)).startswith("You said: (nothing)\nYou attached: a.py, b.py\n")


async def test_results_are_summarised_when_nothing_else_was_asked_for() -> None:
    """The turn ends with a list of the calls' results, including errors."""
    asked = ModelRequest(
        [
            message(Role.USER, Text("!call lookup\n!call lookup")),
            message(Role.ASSISTANT, Text(""), position=2),
            message(Role.TOOL, tool_result("a\nb" + "c" * 300), position=3),
            message(Role.TOOL, tool_result("gone", ToolErrorKind.OUTCOME_UNKNOWN), position=4),
        ]
    )

    assert await lines_of(asked) == [
        (
            f"text: The tools gave 2 results:\n- lookup: a b{'c' * 197}…\n"
            "- lookup failed (outcome_unknown): gone"
        ),
        "finish: end_turn",
    ]


async def test_a_context_that_is_only_a_summary_has_an_answer_too() -> None:
    """A summary of somebody else's is not read as directives."""
    summary = message(Role.USER, Text("!call lookup"), compressed=True)

    assert await text_of(ModelRequest([summary])) == "I go on from the summary."


async def test_a_summary_lets_the_sandbox_go_on_with_its_plan() -> None:
    """It is always the same text, and a context that begins with it has the next answer."""
    asked = "!call lookup\n!step\n!call again\n!step\n!say Done."
    answered = history((Role.USER, asked), (Role.ASSISTANT, "one"))
    please = message(Role.USER, Text("Summarise."), position=8)
    told = await text_of(ModelRequest([*answered, please], purpose=Purpose.SUMMARY))
    assert told == f"Answers given to the newest message of the user so far: 1. It is:\n{asked}"
    summary = message(Role.USER, Text("Before: "), Text(told), position=9, compressed=True)
    assert (await lines_of(ModelRequest([summary])))[0] == "call call_0 again {}"
    later = [summary, *history((Role.ASSISTANT, "two"))]
    again = await text_of(ModelRequest([*later, please], purpose=Purpose.SUMMARY))
    assert again == told.replace("far: 1.", "far: 2.")


async def test_a_message_may_say_what_its_summary_is() -> None:
    """So a test can make it slow, empty, or fail; no other call sees it."""
    asked = "!say Hello.\n!summary\n!say In short."
    please = message(Role.USER, Text("Summarise."), position=8)
    messages = [*history((Role.USER, asked), (Role.ASSISTANT, "Hello.")), please]
    assert await text_of(ModelRequest(messages, purpose=Purpose.SUMMARY)) == "In short."
    assert await text_of(asked) == "Hello."
    complaint = await text_of("!summary\n!say a\n!step\n!say b")
    assert "after !summary comes one answer" in complaint


def test_the_docs_show_every_directive_as_it_is() -> None:
    """The table in the docs is complete, and agrees with the sandbox's own help."""
    docs = DOCS.read_text("utf-8")

    missing = [d.name for d in DIRECTIVES if f"`{d.usage}`".replace("|", "\\|") not in docs]

    assert missing == []


def test_every_recipe_of_the_docs_can_be_read() -> None:
    """An example that is copied from the docs works."""
    blocks = re.findall(r"^```text\n(!.*?)^```$", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)

    assert len(blocks) > 5
    assert [parse(block).problems for block in blocks] == [()] * len(blocks)


# --- which answer --------------------------------------------------------------------------

STEPS = "!call lookup\n!step\n!say two\n!call lookup\n!step\n!say three"
USER, ANSWER, RESULT = (Role.USER, STEPS), (Role.ASSISTANT, "done"), (Role.TOOL, "found")
WHERE = {
    "first": ([USER], ["call call_0 lookup {}"]),
    "second": ([USER, ANSWER, RESULT], ["text: two", "call call_1 lookup {}"]),
    "third": ([USER, ANSWER, RESULT, ANSWER, RESULT], ["text: three"]),
    "beyond, after a result": (
        [USER, ANSWER, RESULT, ANSWER, RESULT, ANSWER, RESULT],
        ["text: The tool gave a result:\n- lookup: found"],
    ),
    "beyond, after an answer": (
        [USER, ANSWER, ANSWER, ANSWER],
        ["text: Your message plans no further answer."],
    ),
    "earlier turns do not count": (
        [
            USER,
            ANSWER,
            RESULT,
            ANSWER,
            (Role.USER, "!say new\n!finish paused\n!step\n!say newer"),
            ANSWER,
        ],
        ["text: newer"],
    ),
}


@pytest.mark.parametrize(("said", "expected"), WHERE.values(), ids=WHERE.keys())
async def test_the_step_follows_from_the_messages_alone(
    said: list[tuple[Role, str]], expected: list[str]
) -> None:
    """A worker that has never seen the chat gives the same answer as the first one."""
    assert (await lines_of(ModelRequest(history(*said))))[:-1] == expected


def paused(*calls: ToolCall, text: str = "!search_later cats\n!step\n!say done") -> list[Message]:
    """Return a turn whose first answer paused after these provider calls."""
    return [
        message(Role.USER, Text(text)),
        message(Role.ASSISTANT, *calls, position=2, finish=FinishReason.PAUSED),
    ]


async def test_an_answer_after_a_pause_begins_with_the_result() -> None:
    """It answers the call that is sent back in the messages; sources and text follow."""
    lines = await lines_of(ModelRequest(paused(provider_call())))

    assert [line.partition("[")[0] for line in lines] == [
        "provider result call_1 ",
        "Source(url='https://example.com/cats/1', title='All about cats', cited_text='')",
        (
            "Source(url='https://example.com/cats/2', title='More about cats', "
            "cited_text='cats is not what it seems.')"
        ),
        "text: done",
        "finish: end_turn",
    ]


async def test_a_search_in_two_answers_has_the_parts_of_one_in_one() -> None:
    """Arguments, result, sources and signatures are the same; only the numbers restart."""
    whole = [part for part in await parts_of("!search cats") if not isinstance(part, Finished)]
    begun = [
        part for part in await parts_of("!search_later cats") if not isinstance(part, Finished)
    ]
    call = provider_call(vendor_id="call_0")
    resumed = await parts_of(ModelRequest(paused(call, text="!search_later cats")))

    assert begun == whole[:-3]
    assert [it for it in whole[-3:] if isinstance(it, ProviderResult | WholePart)] == [
        msgspec.structs.replace(it, part=it.part + 1)
        for it in resumed[:3]
        if isinstance(it, ProviderResult | WholePart)
    ]


async def test_a_pause_without_a_step_after_it_gives_its_results_too() -> None:
    """The vendor answers every search that it began, whatever follows them."""
    calls = provider_call(vendor_id="call_0"), provider_call(vendor_id="call_1")
    lines = await lines_of(ModelRequest(paused(*calls, text="!search_later a\n!search_later b")))

    assert [line.partition("[")[0] for line in lines if "Source" not in line] == [
        "provider result call_0 ",
        "provider result call_1 ",
        "text: Your message plans no further answer.",
        "finish: end_turn",
    ]


FOUND = ToolResult(ToolCallId("id of call_1"), "web_search", "[]", Executor.PROVIDER, 0)
NOT_OWED: dict[str, tuple[tuple[Part, ...], FinishReason]] = {
    "it came": ((provider_call(), FOUND), FinishReason.PAUSED),
    "another vendor's": ((provider_call(of="anthropic"),), FinishReason.PAUSED),
    "no pause": ((provider_call(),), FinishReason.MAX_TOKENS),
}


@pytest.mark.parametrize(("parts", "finish"), NOT_OWED.values(), ids=NOT_OWED.keys())
async def test_a_result_that_is_not_owed_does_not_come(
    parts: tuple[Part, ...], finish: FinishReason
) -> None:
    """Only the sandbox's own searches that a pause left open are answered."""
    (asked, _) = paused()
    answer = message(Role.ASSISTANT, *parts, position=2, finish=finish)

    assert await lines_of(ModelRequest([asked, answer])) == ["text: done", "finish: end_turn"]


async def test_a_run_and_a_new_worker_give_the_same_parts() -> None:
    """A conversation's cache changes nothing, including token counts."""
    conversation = SandboxProvider(ProviderSettings(), ManualClock()).model("echo").conversation()
    for said in ([USER], [USER, ANSWER, RESULT], [USER, ANSWER, RESULT, ANSWER, RESULT]):
        asked = ModelRequest(history(*said))

        assert [part async for part in conversation.stream(asked)] == await parts_of(asked)


# --- always the same -----------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 400))
def test_the_same_number_of_words_is_the_same_text(few: int, many: int) -> None:
    """A shorter text is the beginning of a longer one, and every tenth word is its own number."""
    few, many = sorted((few, many))
    words = list(tokens(many))

    assert words[:few] == list(tokens(few))
    assert len("".join(words).split()) == many
    assert all(words[n - 1] == f" {n}" for n in range(10, many + 1, 10))


def test_words_have_characters_of_every_length() -> None:
    """Clients meet characters of one to four bytes at the edge of a delta."""
    assert {len(char.encode()) for char in "".join(tokens(40))} == {1, 2, 3, 4}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_the_deltas_of_a_text_are_the_text(text: str) -> None:
    """Splitting any text into tokens loses nothing."""
    assert "".join(tokens(text)) == text
    assert all(len(token) <= 128 for token in tokens(text))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))))
def test_the_deltas_of_an_answer_are_what_was_asked_for(texts: list[str]) -> None:
    """Joined, they are the text of the committed part, whatever its content."""
    said = [text.strip() for text in texts if text.strip()]
    asked = "\n".join(f"!say {text}" for text in said) or "!finish end_turn"

    assert asyncio.run(text_of(asked)) == "\n".join(said)


line = st.one_of(
    st.sampled_from([directive.example for directive in DIRECTIVES]),
    st.sampled_from([directive.usage for directive in DIRECTIVES]),
    st.builds(
        "!{} {}".format,
        st.sampled_from([directive.name for directive in DIRECTIVES]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@given(st.lists(line, max_size=6), st.integers(0, 3), st.integers(1, 4))
def test_any_message_has_an_answer_and_the_same_one_each_time(
    written: list[str], answers: int, attempt: int
) -> None:
    """Whatever a user writes, the stream ends with Finished or a ModelFailure, never otherwise,
    and asking again gives the same parts.
    """
    said = history((Role.USER, "\n".join(written)), *[ANSWER] * answers)
    asked = ModelRequest(said, attempt_number=attempt)

    first, second = asyncio.run(_timeless(asked)), asyncio.run(_timeless(asked))

    assert first == second
    assert first[1] or isinstance(first[0][-1], Finished)


class _NoTime(ManualClock):
    """A clock on which every wait ends at once."""

    async def sleep(self, seconds: float, tag: str) -> None:  # noqa: ARG002  the port has it
        self._now += round(seconds * 1e6)


async def _timeless(asked: ModelRequest) -> tuple[list[object], str]:
    seen: list[object] = []
    try:
        async for part in stream(asked, _NoTime()):
            seen.append(part)  # noqa: PERF401  keeps the parts before a failure
    except ModelFailure as failed:
        return seen, str(failed.error)
    return seen, ""


# --- time ----------------------------------------------------------------------------------


class Reader:
    """Reads a stream in its own task and counts its text deltas."""

    def __init__(self, text: str, clock: ManualClock) -> None:
        self.clock = clock
        self.count = 0
        self.task = asyncio.create_task(self._read(text))

    async def _read(self, text: str) -> None:
        async for part in stream(text, self.clock):
            self.count += isinstance(part, Delta) and part.kind is PieceKind.TEXT


async def test_a_pace_is_kept_from_word_to_word() -> None:
    """The first word comes at once, each later one after the pace, however slow the reader."""
    clock = ManualClock()
    reader = Reader("!text 41 20/s", clock)

    assert await clock.sleeping("sandbox.pace") == pytest.approx(0.05)
    assert reader.count == 1
    await clock.advance(1)
    assert reader.count == 21
    await clock.advance(1)
    assert (reader.count, reader.task.done()) == (41, True)


async def test_a_stall_is_as_long_as_it_says() -> None:
    """Nothing comes during it, and a pace after it does not catch up."""
    clock = ManualClock()
    reader = Reader("!pace 10/s\n!text 2\n!stall 5\n!text 11\n!pace full\n!text 7", clock)

    await clock.sleeping("sandbox.pace")
    await clock.advance(0.1)
    assert (reader.count, await clock.sleeping("sandbox.stall")) == (2, 5)
    await clock.advance(5)
    assert reader.count == 2
    await clock.advance(1.1)
    assert (reader.count, reader.task.done()) == (20, True)


async def test_arguments_of_a_call_keep_the_pace_too() -> None:
    """A client can watch the arguments grow."""
    clock = ManualClock()
    reader = Reader('!pace 1/s\n!call a {"city":"Oslo"}', clock)

    await clock.sleeping("sandbox.pace")
    await clock.advance(1)

    assert reader.task.done()


async def test_words_without_a_pace_leave_others_their_turn() -> None:
    """A long answer does not block the event loop."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)  # noqa: TID251  a turn of the loop

    task = asyncio.create_task(other())
    await parts_of("!text 10000")
    task.cancel()

    assert turns >= 10000 // 256 - 1


async def test_closing_the_stream_ends_its_wait() -> None:
    """An interrupt during a stall leaves no timer."""
    clock = ManualClock()
    reader = Reader("!text 1\n!stall 60\n!text 1", clock)
    await clock.sleeping("sandbox.stall")

    reader.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader.task

    assert (reader.count, clock.tags()) == (1, [])


# --- names ---------------------------------------------------------------------------------


def test_there_is_one_model() -> None:
    """A misspelled model name does not select the sandbox."""
    assert SandboxProvider(ProviderSettings(), ManualClock()).model("echo").name == "sandbox/echo"
    with pytest.raises(ModelNotFound, match="sandbox/echo"):
        SandboxProvider(ProviderSettings(), ManualClock()).model("ecko")
