"""Rule 2: every transition that must close open calls writes exactly one result for each."""

from collections.abc import Callable

import pytest

from chatd_server.domain.chat import AttemptKind, StopReason
from chatd_server.domain.command import (
    BusyBehavior,
    CommitCompaction,
    CommitResults,
    EditMessage,
    FinishInterruption,
    PromoteQueued,
    Release,
    Rescue,
)
from chatd_server.domain.event import MessageCommitted
from chatd_server.domain.ids import MICROSECONDS, AttemptId
from chatd_server.domain.limits import TOOL_RESULT_BYTES_MAX
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    FinishReason,
    Role,
    Text,
    ToolErrorKind,
)
from chatd_server.domain.refusal import (
    ToolResultsMismatch,
    WrongStatus,
)
from chatd_server.domain.transition import Transition
from tests.domain.situations import running, running_with
from tests.kit.by_hand import BEGIN, ByHand, call, errors, kinds, open_ids, said


def test_a_call_is_open_until_its_result_unless_the_provider_executed_it() -> None:
    """Calls of ours, of the client's and of nobody wait; the provider's never do."""
    chat = running_with(Executor.SERVER, Executor.PROVIDER, Executor.CLIENT, Executor.NONE)
    assert open_ids(chat.state.calls) == ["s1", "s3", "s4"]


def test_a_batch_leaves_the_clients_calls_open() -> None:
    """Results of ours and errors of unknown tools are committed; the client's come later."""
    chat = running_with(Executor.CLIENT, Executor.SERVER, Executor.NONE)
    chat.batch("s3", "s2")
    assert [it.call_id for it in chat.last.results] == ["s2", "s3"]
    assert open_ids(chat.state.calls) == ["s1"]


LARGE = "x" * TOOL_RESULT_BYTES_MAX


def test_results_that_are_too_large_for_one_event_are_committed_as_several_messages() -> None:
    """Each fits one response; call order stays, and only the last closes the attempt."""
    chat = running_with(*[Executor.SERVER] * 4)
    attempt_id = chat.attempt(AttemptKind.TOOLS)
    outputs = {"s1": "small", "s2": LARGE, "s3": LARGE, "s4": "small"}
    results = tuple(chat.result(it, output) for it, output in outputs.items())
    done = chat.do(CommitResults(**chat.hold(), attempt_id=attempt_id, results=results))
    ids = [[it.call_id for it in message.results] for message in done.messages]
    assert ids == [["s1", "s2"], ["s3", "s4"]]
    assert [it.attempt_id for it in done.messages] == [attempt_id] * 2
    assert closed_by(done) == ["", attempt_id]


def test_large_results_of_the_client_are_committed_as_several_messages() -> None:
    """A client may hand in more at once than one event holds."""
    chat = running_with(*[Executor.CLIENT] * 3)
    chat.require_action()
    done = chat.submit("s3", "s2", "s1", output=LARGE)
    ids = [[it.call_id for it in message.results] for message in done.messages]
    assert ids == [["s1"], ["s2"], ["s3"]]


def test_large_results_of_an_interrupted_batch_are_committed_as_several_messages() -> None:
    """Also then only the last message closes the attempt."""
    chat = running_with(*[Executor.SERVER] * 3)
    attempt_id = chat.attempt(AttemptKind.TOOLS)
    for call_id in ("s1", "s2"):
        chat.journal(call_id, outcome=chat.result(call_id, LARGE))
    chat.interrupt()
    done = chat.do(FinishInterruption(**chat.hold(), attempt_id=attempt_id))
    ids = [[it.call_id for it in message.results] for message in done.messages]
    assert ids == [["s1"], ["s2", "s3"]]
    assert closed_by(done) == ["", attempt_id]


def closed_by(done: Transition) -> list[str]:
    """Return which attempt each committed message closes."""
    return [it.event.attempt_id for it in done.events if isinstance(it.event, MessageCommitted)]


@pytest.mark.parametrize("given", [(), ("s1",), ("s1", "s1"), ("s1", "s2", "s2")])
def test_a_batch_must_answer_each_call_once(given: tuple[str, ...]) -> None:
    """A worker that forgets or doubles a result is refused, and the calls stay open."""
    chat = running_with(Executor.SERVER, Executor.NONE)
    attempt_id = chat.attempt(AttemptKind.TOOLS)
    results = tuple(chat.result(it) for it in given)
    with pytest.raises(ToolResultsMismatch):
        chat.do(CommitResults(**chat.hold(), attempt_id=attempt_id, results=results))
    assert open_ids(chat.state.calls) == ["s1", "s2"]


@pytest.mark.parametrize("finish", [it for it in FinishReason if it is not FinishReason.TOOL_CALLS])
def test_calls_of_a_cut_answer_are_answered_with_it_and_none_runs(finish: FinishReason) -> None:
    """The transition that commits a cut answer also says so to each call of it."""
    chat = running()
    done = chat.answer(
        call("s1"), call("p1", Executor.PROVIDER), call("c1", Executor.CLIENT), finish=finish
    )
    assert kinds(done.events) == ["MessageCommitted", "MessageCommitted"]
    cut = ToolErrorKind.ANSWER_CUT
    assert errors(chat) == {"s1": cut, "c1": cut}
    assert not chat.state.calls


def end_by_interrupt(chat: ByHand) -> None:
    """Interrupt a chat that nobody holds."""
    chat.do(Release(**chat.hold()))
    chat.interrupt()


def end_by_message(chat: ByHand) -> None:
    """Replace the turn of a chat that nobody holds."""
    chat.do(Release(**chat.hold()))
    chat.send("instead", BusyBehavior.INTERRUPT)


def end_by_promotion(chat: ByHand) -> None:
    """Start a queued message while nobody holds the chat."""
    chat.send("later")
    chat.do(Release(**chat.hold()))
    chat.do(PromoteQueued(command_id="x", message_id=chat.state.queue[0].id))


def end_by_interruption(chat: ByHand) -> None:
    """Let the worker stop."""
    chat.interrupt()
    chat.do(FinishInterruption(**chat.hold()))


def end_by_finish(chat: ByHand) -> None:
    """Let the worker end the turn."""
    chat.finish(StopReason.MAX_STEPS)


def end_by_failure(chat: ByHand) -> None:
    """Let the turn fail."""
    chat.fail()


def end_by_compaction(chat: ByHand) -> None:
    """Set a boundary after the calls."""
    attempt_id = chat.attempt(AttemptKind.COMPACTION)
    summary = (Text("in short"),)
    auto = CompactionSource.AUTO
    chat.do(CommitCompaction(**chat.hold(), attempt_id=attempt_id, parts=summary, source=auto))


ENDS = [
    end_by_interrupt,
    end_by_message,
    end_by_promotion,
    end_by_interruption,
    end_by_finish,
    end_by_failure,
    end_by_compaction,
]


@pytest.mark.parametrize("end", ENDS)
def test_whatever_closes_calls_answers_each_one_by_what_is_known(
    end: Callable[[ByHand], None],
) -> None:
    """A recorded outcome stays, a started call is unknown, any other was interrupted."""
    chat = running_with(*[Executor.SERVER] * 3, Executor.CLIENT, Executor.NONE)
    chat.journal("s1", outcome=chat.result("s1", "recorded"))
    chat.journal("s2")
    chat.now += MICROSECONDS
    end(chat)
    interrupted = ToolErrorKind.INTERRUPTED
    assert errors(chat) == {
        "s1": None,
        "s2": ToolErrorKind.OUTCOME_UNKNOWN,
        "s3": interrupted,
        "s4": interrupted,
        "s5": interrupted,
    }
    assert chat.results["s1"].output == "recorded"
    assert chat.results["s1"].created_at == BEGIN
    assert chat.results["s2"].created_at == BEGIN + MICROSECONDS
    results = [it for it in chat.messages if it.role is Role.TOOL]
    assert len(results) == 1, "one message, in call order"
    assert not chat.state.calls


def test_an_edit_removes_open_calls_with_their_answer() -> None:
    """What answers a removed call would answer nothing, so nothing is written."""
    chat = running_with(Executor.SERVER)
    chat.do(EditMessage(command_id="x", position=1, parts=(Text("rather"),)))
    assert [it.role for it in chat.messages] == [Role.USER]
    assert not chat.state.calls


@pytest.mark.parametrize("command", [Release, Rescue])
def test_giving_a_chat_back_keeps_its_calls_open(command: type[Release | Rescue]) -> None:
    """The next worker reads the journal and goes on with the batch."""
    chat = running_with(Executor.SERVER, Executor.CLIENT)
    chat.do(command(**chat.hold()), seconds=31)
    assert open_ids(chat.state.calls) == ["s1", "s2"]


# --- interruption --------------------------------------------------------------------------


def test_an_interruption_saves_the_partial_answer_and_answers_its_calls() -> None:
    """A user's stop keeps text and calls; a call cut in the middle is answered like the rest."""
    chat = running()
    attempt_id = chat.attempt()
    chat.interrupt()
    parts = (Text("on it"), call("s1"), call("p1", Executor.PROVIDER))
    done = chat.do(FinishInterruption(**chat.hold(), attempt_id=attempt_id, parts=parts))
    answer, results = done.messages
    assert (answer.parts, answer.finish_reason) == (parts, FinishReason.INTERRUPTED)
    assert [it.error for it in results.results] == [ToolErrorKind.INTERRUPTED]
    closing = [it for it in said(done.events, MessageCommitted) if it.attempt_id]  # type: ignore[union-attr]
    assert closing == [MessageCommitted(answer.position, attempt_id)]


def test_an_interruption_keeps_what_tools_have_given() -> None:
    """What a worker brings is newer than the journal; what neither has is interrupted."""
    chat = running_with(*[Executor.SERVER] * 3)
    attempt_id = chat.attempt(AttemptKind.TOOLS)
    chat.journal("s1", outcome=chat.result("s1", "in the journal"))
    chat.journal("s2")
    results = (chat.result("s2", "just now"),)
    chat.interrupt()
    done = chat.do(FinishInterruption(**chat.hold(), attempt_id=attempt_id, results=results))
    assert [it.output for it in chat.results.values()][:2] == ["in the journal", "just now"]
    assert errors(chat)["s3"] is ToolErrorKind.INTERRUPTED
    assert done.events[0].event == MessageCommitted(chat.last.position, attempt_id)


def test_an_interruption_with_nothing_to_save_writes_no_message() -> None:
    """A stop before the first word leaves the history as it was."""
    chat = running()
    chat.interrupt()
    done = chat.do(FinishInterruption(**chat.hold()))
    assert kinds(done.events) == ["StatusChanged"]


def test_a_partial_answer_of_another_attempt_is_refused() -> None:
    """Words of an attempt that is over are not saved a second time."""
    chat = running()
    chat.attempt()
    chat.interrupt()
    late = FinishInterruption(**chat.hold(), attempt_id=AttemptId("old"), parts=(Text("late"),))
    with pytest.raises(WrongStatus):
        chat.do(late)
