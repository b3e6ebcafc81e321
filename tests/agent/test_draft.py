"""The step in progress: the text that was shown equals the text that is stored."""

from collections.abc import Iterable

import pytest

from chatd_server.agent.model.attempt import fold
from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.domain.answer_parts import (
    AnswerPart,
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
    UsageSeen,
    WholePart,
)
from chatd_server.domain.chat import ClientTool
from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.domain.ids import MICROSECONDS, AttemptId, ToolCallId
from chatd_server.domain.limits import ANSWER_PARTS_MAX
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Native,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from tests.kit.clock import ManualClock
from tests.kit.make import FixedTool, RecordingWriter

BOX = Toolbox((FixedTool("shell"), FixedTool("open")), [ClientTool("open")])
HIGH, LOW = "\ud83d", "\ude00"
SMILE = "\U0001f600"


class Played:
    """A draft that has received some parts."""

    def __init__(self, *parts: AnswerPart) -> None:
        self.clock = ManualClock()
        self.writer = RecordingWriter()
        self.draft = StepDraft(self.clock)
        self.draft.begin(AttemptId("attempt"), self.writer)
        self.play(parts)

    def play(self, parts: Iterable[AnswerPart]) -> None:
        for part in parts:
            fold(part, self.draft, BOX)


def end(reason: FinishReason = FinishReason.END_TURN) -> Finished:
    return Finished(reason, Usage(output_tokens=7))


def text_of(part: Part) -> str:
    assert isinstance(part, Text | Reasoning | Refusal)
    return part.text


def test_an_answer_keeps_every_part_in_stream_order() -> None:
    """Reasoning, text, a vendor's search with its source and a call keep their order."""
    signature = Native("vendor", '{"signature":"x"}', "model")
    played = Played(
        Delta(0, PieceKind.REASONING, ""),
        Delta(0, PieceKind.REASONING, "hm"),
        PartEnded(0, signature),
        Delta(1, PieceKind.TEXT, "I "),
        Delta(1, PieceKind.TEXT, "look."),
        PartEnded(1),
        CallStarted(2, "v1", "search", by_provider=True),
        Delta(2, PieceKind.CALL, '{"q":1}'),
        PartEnded(2),
        ProviderResult(3, "v1", "search", "[]"),
        WholePart(4, Source("http://a.example")),
        CallStarted(5, "v2", "shell"),
        Delta(5, PieceKind.CALL, '{"c'),
        Delta(5, PieceKind.CALL, 'md":"ls"}'),
        PartEnded(5),
        end(FinishReason.TOOL_CALLS),
    )
    answer = played.draft.seal()
    reasoning, text, search, found, source, shell = answer.parts
    assert reasoning == Reasoning("hm", signature)
    assert text == Text("I look.")
    assert isinstance(search, ToolCall)
    assert isinstance(found, ToolResult)
    assert isinstance(shell, ToolCall)
    assert (search.executor, search.arguments) == (Executor.PROVIDER, '{"q":1}')
    assert found.call_id == search.id
    assert source == Source("http://a.example")
    assert (shell.executor, shell.arguments) == (Executor.SERVER, '{"cmd":"ls"}')
    assert shell.vendor_id == "v2"
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert answer.usage == Usage(output_tokens=7)
    assert played.writer.texts == {
        0: "hm",
        1: "I look.",
        2: '{"q":1}',
        5: '{"cmd":"ls"}',
    }


@pytest.mark.parametrize(
    ("name", "by_provider", "executor"),
    [
        ("shell", False, Executor.SERVER),
        ("open", False, Executor.CLIENT),
        ("search", True, Executor.PROVIDER),
        ("shell", True, Executor.PROVIDER),
        ("missing", False, Executor.NONE),
    ],
)
def test_the_executor_is_resolved_when_the_call_is_emitted(
    name: str, by_provider: bool, executor: Executor
) -> None:
    """A client's name wins over a built-in; an unknown name gets no executor."""
    played = Played(CallStarted(0, "v", name, by_provider), PartEnded(0), end())
    (call,) = played.draft.seal().parts
    assert isinstance(call, ToolCall)
    assert call.executor is executor


def test_call_ids_are_ours_also_when_the_vendor_repeats_its_own() -> None:
    """Two calls with one vendor id are two calls."""
    played = Played(
        CallStarted(0, "same", "shell"),
        PartEnded(0),
        CallStarted(1, "same", "shell"),
        PartEnded(1),
        end(FinishReason.TOOL_CALLS),
    )
    first, second = played.draft.seal().parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id != second.id
    assert (first.vendor_id, second.vendor_id) == ("same", "same")


async def test_a_call_is_stamped_when_it_was_emitted() -> None:
    """Not when the step is sealed."""
    played = Played(CallStarted(0, "v", "shell"))
    emitted_at = played.clock.now()
    await played.clock.advance(3)
    played.play([PartEnded(0), end(FinishReason.TOOL_CALLS)])
    (call,) = played.draft.seal().parts
    assert isinstance(call, ToolCall)
    assert call.created_at == emitted_at
    assert played.clock.now() == emitted_at + 3 * MICROSECONDS


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        pytest.param([HIGH, LOW], SMILE, id="a pair in two deltas"),
        pytest.param([f"a{HIGH}", f"{LOW}b"], f"a{SMILE}b", id="a pair at an edge"),
        pytest.param([HIGH + LOW], SMILE, id="a pair in one delta"),
        pytest.param([HIGH, "a"], "\ufffda", id="a high one that stays alone"),
        pytest.param([f"a{HIGH}"], "a\ufffd", id="a high one at the end"),
        pytest.param([LOW, "a"], "\ufffda", id="a low one"),
        pytest.param([HIGH, HIGH, LOW], f"\ufffd{SMILE}", id="a high one before a pair"),
        pytest.param([HIGH, "", LOW], SMILE, id="an empty delta in between"),
        pytest.param(["a\x00b"], "a\x00b", id="NUL survives"),
    ],
)
@pytest.mark.parametrize("kind", [PieceKind.TEXT, PieceKind.REASONING, PieceKind.REFUSAL])
def test_surrogates_are_joined_or_replaced(kind: PieceKind, deltas: list[str], whole: str) -> None:
    """Shown and stored text agree, and both are well-formed."""
    played = Played(*(Delta(0, kind, delta) for delta in deltas), end())
    (part,) = played.draft.seal().parts
    assert text_of(part) == whole
    assert played.writer.texts == {0: whole}


def test_arguments_stay_the_vendors_text() -> None:
    """Escapes, blanks and even broken JSON do not change; a raw lone surrogate is replaced."""
    raw = '{ "a" : "\\ud83d\\u0000", \n'
    played = Played(
        CallStarted(0, "v", "shell"),
        Delta(0, PieceKind.CALL, raw),
        Delta(0, PieceKind.CALL, HIGH),
        Delta(0, PieceKind.CALL, LOW),
        Delta(0, PieceKind.CALL, HIGH),
        PartEnded(0),
        end(FinishReason.TOOL_CALLS),
    )
    (call,) = played.draft.seal().parts
    assert isinstance(call, ToolCall)
    assert call.arguments == raw + SMILE + "\ufffd"
    assert played.writer.texts[0] == call.arguments


def test_arguments_that_came_without_deltas_are_shown_too() -> None:
    """The whole text at the end is used if no delta came before it."""
    played = Played(
        CallStarted(0, "v", "shell"), PartEnded(0, None, '{"a":1}'), end(FinishReason.TOOL_CALLS)
    )
    (call,) = played.draft.seal().parts
    assert isinstance(call, ToolCall)
    assert call.arguments == played.writer.texts[0] == '{"a":1}'


def test_texts_inside_whole_parts_can_travel() -> None:
    """A source's title and a vendor's result are cleaned like all other text."""
    played = Played(
        WholePart(0, Source("http://a.example", title=f"x{HIGH}")),
        ProviderResult(1, "v", "search", f"{HIGH}{LOW}", native=Native("vendor", f'"{LOW}"')),
        end(),
    )
    source, found = played.draft.seal().parts
    assert source == Source("http://a.example", title="x\ufffd")
    assert isinstance(found, ToolResult)
    assert found.output == SMILE
    assert found.native == Native("vendor", '"\ufffd"')


def test_a_call_that_never_ended_takes_the_whole_answer_out_of_running() -> None:
    """With another finish reason than tool calls, none of its calls runs."""
    played = Played(
        CallStarted(0, "v", "shell"), Delta(0, PieceKind.CALL, '{"cm'), end(FinishReason.TOOL_CALLS)
    )
    assert played.draft.seal().finish_reason is FinishReason.OTHER


def test_a_partial_step_keeps_text_reasoning_and_the_call_in_progress() -> None:
    """If it is sealed within the arguments, the call has the part that arrived."""
    played = Played(
        Delta(0, PieceKind.REASONING, "hm"),
        PartEnded(0),
        Delta(1, PieceKind.TEXT, f"On it{HIGH}"),
        CallStarted(2, "v", "shell"),
        Delta(2, PieceKind.CALL, '{"cm'),
        UsageSeen(Usage(input_tokens=5)),
    )
    reasoning, text, call = played.draft.seal_partial()
    assert (reasoning, text) == (Reasoning("hm"), Text("On it\ufffd"))
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"cm'
    assert played.draft.usage == Usage(input_tokens=5)
    assert played.writer.texts == {0: "hm", 1: "On it\ufffd", 2: '{"cm'}


def test_a_partial_step_of_nothing_is_nothing() -> None:
    """A part that was opened but stayed empty makes no message."""
    played = Played(Delta(0, PieceKind.REASONING, ""))
    assert played.draft.seal_partial() == ()


def test_a_result_of_an_earlier_paused_answer_finds_its_call() -> None:
    """A vendor that paused sends the result with its next answer."""
    played = Played()
    played.draft.begin(AttemptId("next"), played.writer, {"v1": ToolCallId("call_before")})
    played.play([ProviderResult(0, "v1", "search", "[]"), end()])
    (found,) = played.draft.seal().parts
    assert isinstance(found, ToolResult)
    assert found.call_id == "call_before"


def test_begin_empties_the_draft() -> None:
    """Nothing of a failed attempt remains in the next one."""
    played = Played(Delta(0, PieceKind.TEXT, "half"), UsageSeen(Usage(input_tokens=5)))
    played.draft.abandon()
    assert played.writer.is_abandoned
    played.draft.begin(AttemptId("next"), RecordingWriter())
    played.play([Delta(0, PieceKind.TEXT, "whole"), Finished(FinishReason.END_TURN, Usage())])
    answer = played.draft.seal()
    assert (answer.parts, answer.usage) == ((Text("whole"),), Usage())


def test_closing_does_not_void_what_was_shown() -> None:
    """After the commit, abandoning the draft affects no live part."""
    played = Played(Delta(0, PieceKind.TEXT, "hello"))
    played.draft.close()
    played.draft.abandon()
    assert not played.writer.is_abandoned


@pytest.mark.parametrize(
    "more",
    [
        Delta(ANSWER_PARTS_MAX, PieceKind.TEXT, "x"),
        CallStarted(ANSWER_PARTS_MAX, "v", "shell"),
        WholePart(ANSWER_PARTS_MAX, Source("https://example.com")),
    ],
)
def test_an_answer_has_a_longest_list_of_parts(more: AnswerPart) -> None:
    """One more part fails; the existing parts may still grow."""
    played = Played(*[Delta(n, PieceKind.TEXT, "x") for n in range(ANSWER_PARTS_MAX)])
    played.play([Delta(ANSWER_PARTS_MAX - 1, PieceKind.TEXT, "x")])

    with pytest.raises(ModelFailure) as failed:
        played.play([more])
    assert failed.value.error.kind is ErrorKind.OUTPUT_TOO_LARGE


def test_each_answer_is_counted_by_itself() -> None:
    """The limit is per answer, not per turn."""
    played = Played(*[Delta(n, PieceKind.TEXT, "x") for n in range(ANSWER_PARTS_MAX)])
    played.draft.begin(AttemptId("next"), played.writer)
    played.play([CallStarted(0, "v", "shell")])

    assert len(played.draft.seal_partial()) == 1
