"""Whatever a client is asked for, it can answer: bounds of the calls and results of one step."""

import pytest

from chatd_server.domain.command import FinishInterruption, SubmittedResult, SubmitToolResults
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.limits import (
    CALLS_PER_ANSWER_MAX,
    CLIENT_RESULT_ROOM_BYTES,
    TOOL_BATCH_BYTES_MAX,
    TOOL_RESULT_BYTES_MAX,
)
from chatd_server.domain.message import Executor, ToolErrorKind
from tests.domain.situations import running
from tests.kit.by_hand import ByHand, call, errors, kinds, open_ids

TOO_MANY = CALLS_PER_ANSWER_MAX + 44
LARGE = "x" * TOOL_RESULT_BYTES_MAX


def asking(calls: int) -> ByHand:
    """Return a chat whose client owes results of these calls, or of as many as are allowed."""
    chat = running()
    chat.answer(*(call(f"c{n}", Executor.CLIENT) for n in range(calls)))
    chat.require_action()
    return chat


@pytest.mark.parametrize("executor", [Executor.SERVER, Executor.CLIENT, Executor.NONE])
def test_calls_above_the_limit_are_answered_with_the_answer(executor: Executor) -> None:
    """The first ones are opened, each of the others is told why it did not run; none is lost."""
    chat = running()
    done = chat.answer(*(call(f"s{n}", executor) for n in range(TOO_MANY)))
    assert open_ids(chat.state.calls) == [f"s{n}" for n in range(CALLS_PER_ANSWER_MAX)]
    above = [f"s{n}" for n in range(CALLS_PER_ANSWER_MAX, TOO_MANY)]
    assert errors(chat) == dict.fromkeys(above, ToolErrorKind.INVALID_CALL)
    assert str(CALLS_PER_ANSWER_MAX) in chat.results[above[0]].output
    assert kinds(done.events) == ["MessageCommitted"] * 2


def test_calls_of_the_provider_count_for_no_limit() -> None:
    """They wait for nobody."""
    chat = running()
    provider = (call(f"p{n}", Executor.PROVIDER) for n in range(TOO_MANY))
    chat.answer(*provider, call("c1", Executor.CLIENT))
    assert open_ids(chat.state.calls) == ["c1"]
    assert not chat.results


def test_a_turn_with_too_many_calls_goes_on() -> None:
    """The results of the others complete the step, and the model may be called again."""
    chat = asking(TOO_MANY)
    chat.submit(*open_ids(chat.state.calls))
    assert len(chat.results) == TOO_MANY
    chat.acquire()
    chat.answer("thank you")


def test_a_cut_answer_with_too_many_calls_answers_each_of_them() -> None:
    """A stop in the middle of an answer gives each call one result, whatever the limit."""
    chat = running()
    attempt_id = chat.attempt()
    chat.interrupt()
    parts = tuple(call(f"s{n}") for n in range(TOO_MANY))
    chat.do(FinishInterruption(**chat.hold(), attempt_id=attempt_id, parts=parts))
    assert len(chat.results) == TOO_MANY


def test_the_largest_results_of_as_many_calls_as_a_batch_has_room_for_stay_whole() -> None:
    """Up to 32 calls: results as large as the contract takes them, handed in one by one."""
    calls = TOOL_BATCH_BYTES_MAX // TOOL_RESULT_BYTES_MAX
    chat = asking(calls)
    for n in range(calls):
        chat.submit(f"c{n}", output=LARGE, partial=True)
    assert {it.output for it in chat.results.values()} == {LARGE}
    assert not any(it.truncated for it in chat.results.values())


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_results_that_are_too_large_together_are_cut_and_not_refused(at_once: int) -> None:
    """However they come, each has its room, and together they have no more than a batch of ours."""
    chat = asking(64)
    wanted = open_ids(chat.state.calls)
    for begin in range(0, len(wanted), at_once):
        chat.submit(*wanted[begin : begin + at_once], output=LARGE, partial=True)
    results = [chat.results[it] for it in wanted]
    sizes = [len(it.output.encode()) for it in results]
    assert sum(sizes) == TOOL_BATCH_BYTES_MAX
    assert min(sizes) == CLIENT_RESULT_ROOM_BYTES
    assert max(sizes) == TOOL_RESULT_BYTES_MAX
    for result, size in zip(results, sizes, strict=True):
        assert result.truncated == (size < TOOL_RESULT_BYTES_MAX)
        assert result.truncated == ("[cut: " in result.output)


def test_a_result_that_was_cut_is_text() -> None:
    """What is left of JSON is none."""
    chat = asking(64)
    json = '"' + "x" * (TOOL_RESULT_BYTES_MAX - 2) + '"'
    results = tuple(
        SubmittedResult(ToolCallId(it), json, is_json=True) for it in open_ids(chat.state.calls)
    )
    chat.do(SubmitToolResults(command_id="x", results=results))
    first, *_, last = chat.results.values()
    assert (first.is_json, first.truncated) == (True, False)
    assert (last.is_json, last.truncated) == (False, True)


def test_every_call_has_its_room_and_small_results_leave_theirs_to_others() -> None:
    """The first results take nothing from the others; what is left over goes to the next ones."""
    chat = asking(CALLS_PER_ANSWER_MAX)
    first, second, third, *others = open_ids(chat.state.calls)
    chat.submit(first, output="x", partial=True)
    chat.submit(second, output="x" * (2 * CLIENT_RESULT_ROOM_BYTES - 1), partial=True)
    chat.submit(third, output="x" * (CLIENT_RESULT_ROOM_BYTES + 1), partial=True)
    chat.submit(*others, output="x" * CLIENT_RESULT_ROOM_BYTES)
    assert [it.call_id for it in chat.results.values() if it.truncated] == [third]
