"""Which calls of a batch run, and the form of their results."""

import pytest

from chatd_server.agent.model.retry import delay_seconds
from chatd_server.agent.tools import outcome
from chatd_server.agent.tools.batch import plan_batch
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.domain.limits import TOOL_RESULT_BYTES_MAX
from chatd_server.domain.message import Executor, ResultFile, ToolErrorKind
from chatd_server.ports.tools import ToolOutput
from tests.kit.make import FixedTool, open_call

SHELL = FixedTool("shell")
LOOKUP = FixedTool("lookup", idempotent=True)
BOX = Toolbox((SHELL, LOOKUP), ())
DONE = outcome.result_of(open_call("a"), ToolOutput("done"), 5)


def test_a_new_call_runs() -> None:
    """Nothing is known of it yet."""
    plan = plan_batch([open_call("a")], BOX, 9)
    assert plan.to_run == ((open_call("a"), SHELL),)
    assert plan.answered == ()


@pytest.mark.parametrize("name", ["shell", "lookup", "gone"])
def test_a_recorded_outcome_is_used(name: str) -> None:
    """Also when the tool is idempotent, or not there any more."""
    plan = plan_batch([open_call("a", name=name, started_at=1, outcome=DONE)], BOX, 9)
    assert (plan.answered, plan.to_run) == ((DONE,), ())


@pytest.mark.parametrize("name", ["shell", "gone"])
def test_a_started_call_without_an_outcome_is_unknown(name: str) -> None:
    """At most once is the rule."""
    plan = plan_batch([open_call("a", name=name, started_at=1)], BOX, 9)
    assert plan.to_run == ()
    assert [(it.error, it.created_at) for it in plan.answered] == [
        (ToolErrorKind.OUTCOME_UNKNOWN, 9)
    ]


def test_a_started_call_of_an_idempotent_tool_runs_again() -> None:
    """The tool said that it may."""
    call = open_call("a", name="lookup", started_at=1)
    assert plan_batch([call], BOX, 9).to_run == ((call, LOOKUP),)


@pytest.mark.parametrize("executor", [Executor.NONE, Executor.SERVER])
def test_a_call_without_an_executor_lists_the_available_tools(executor: Executor) -> None:
    """An unknown name, and one whose tool is gone since."""
    plan = plan_batch([open_call("a", executor, name="rm")], BOX, 9)
    (result,) = plan.answered
    assert result.error is ToolErrorKind.INVALID_CALL
    assert result.output == "there is no tool 'rm'; available tools: shell, lookup"
    assert result.executor is executor


@pytest.mark.parametrize("letter", ["a", "é", "€", "\U0001f600"])
def test_a_long_result_is_cut_at_a_character(letter: str) -> None:
    """The note is inside the limit, and no character is halved."""
    given = ToolOutput(letter * (TOOL_RESULT_BYTES_MAX + 1), is_json=True)
    result = outcome.result_of(open_call("a"), given, 0)
    size = len(result.output.encode())
    assert TOOL_RESULT_BYTES_MAX - 4 < size <= TOOL_RESULT_BYTES_MAX
    assert result.output.removesuffix(outcome.CUT_NOTE).strip(letter) == ""
    assert result.truncated
    assert not result.is_json


def test_a_result_of_just_the_limit_is_whole() -> None:
    """The limit itself is allowed."""
    result = outcome.result_of(open_call("a"), ToolOutput("a" * TOOL_RESULT_BYTES_MAX), 0)
    assert (len(result.output), result.truncated) == (TOOL_RESULT_BYTES_MAX, False)


def test_the_limit_of_the_output_cuts_no_file() -> None:
    """The result has the files by their ids, next to the output."""
    image = ResultFile("f1", "image/png", "shot.png")
    given = ToolOutput("a" * (TOOL_RESULT_BYTES_MAX + 1), files=(image,))
    result = outcome.result_of(open_call("a"), given, 0)
    assert (result.truncated, result.files) == (True, (image,))


def test_a_result_can_travel() -> None:
    """Lone surrogates are replaced, NUL stays."""
    result = outcome.result_of(open_call("a"), ToolOutput("a\ud800\x00"), 0)
    assert result.output == "a\ufffd\x00"


@pytest.mark.parametrize(
    ("failures", "retry_after", "seconds"),
    [
        (1, None, 1.0),
        (2, None, 2.0),
        (6, None, 32.0),
        (7, None, 60.0),
        (24, None, 60.0),
        (100_000, None, 60.0),
        (1, 7.5, 7.5),
        (4, 2.0, 8.0),
        (7, 300.0, 300.0),
    ],
)
def test_delay(failures: int, retry_after: float | None, seconds: float) -> None:
    """The ladder doubles up to a minute, and the vendor's wish is a floor without a ceiling."""
    assert delay_seconds(failures, retry_after) == seconds
