"""Rule 2: every transition that must close open calls writes exactly one result for each."""

from collections.abc import Callable

import pytest

from chatd_server.domain.chat import AttemptKind, ChatConfig, StopReason
from chatd_server.domain.command import (
    BusyBehavior,
    CommitCompaction,
    CommitResults,
    EditMessage,
    ExpireAction,
    FinishInterruption,
    PromoteQueued,
    Release,
    Rescue,
    SendMessage,
    SubmittedResult,
    SubmitToolResults,
)
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolution,
    ActionResolved,
    CompactionSource,
    MessageCommitted,
)
from chatd_server.domain.ids import MICROSECONDS, AttemptId, MessageId, ToolCallId
from chatd_server.domain.limits import EVENT_PAYLOAD_BYTES_MAX
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Role,
    Text,
    ToolCall,
    ToolErrorKind,
)
from chatd_server.domain.refusal import (
    NotWaitingForAction,
    ToolResultsMismatch,
    WrongStatus,
)
from tests.domain.situations import action, running
from tests.kit.by_hand import BEGIN, ByHand, call, kinds, open_ids, said


def running_with(*executors: Executor) -> ByHand:
    """Return a running chat whose answer asked for calls s1, s2, ... of these executors."""
    chat = running()
    chat.answer(*(call(f"s{n}", it) for n, it in enumerate(executors, 1)))
    return chat


def errors(chat: ByHand) -> dict[str, ToolErrorKind | None]:
    """Return why each result is an error, in the order of the results."""
    return {call_id: it.error for call_id, it in chat.results.items()}


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
    """Set a boundary behind the calls."""
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


# --- the client's calls --------------------------------------------------------------------


def test_an_action_is_required_only_when_every_other_call_has_its_result() -> None:
    """The client is asked last, so that its results complete the step."""
    chat = running_with(Executor.SERVER, Executor.CLIENT)
    with pytest.raises(WrongStatus):
        chat.require_action()
    chat.batch("s1")
    chat.require_action()
    assert open_ids(chat.state.calls) == ["s2"]


def test_an_action_without_a_client_call_is_refused() -> None:
    """There would be nothing to submit, and the chat would wait for ever."""
    with pytest.raises(WrongStatus):
        running().require_action()


def test_an_action_has_the_deadline_of_the_chat_and_frees_the_worker() -> None:
    """The event tells calls, deadline and turn; the number of the event stands in the state."""
    chat = ByHand()
    chat.create("hi", ChatConfig(action_timeout_seconds=90.0))
    chat.acquire()
    chat.answer(call("c1", Executor.CLIENT))
    done = chat.require_action()
    (asked,) = said(done.events, ActionRequired)
    assert isinstance(asked, ActionRequired)
    assert [it.id for it in asked.calls] == ["c1"]
    assert asked.deadline == BEGIN + 90 * MICROSECONDS
    assert kinds(done.events) == ["ActionRequired", "StatusChanged"]
    assert chat.state.action is not None
    assert chat.state.action.sequence == done.events[0].sequence
    assert chat.state.lease is None


def test_an_action_shows_as_many_arguments_as_one_event_may_carry() -> None:
    """Longer ones stand in the message and are empty in the event."""
    half = '"' + "x" * (EVENT_PAYLOAD_BYTES_MAX // 2) + '"'
    chat = running()
    calls = [
        ToolCall(ToolCallId(f"c{n}"), "edit", text, Executor.CLIENT, BEGIN)
        for n, text in enumerate([half, half, "{}"])
    ]
    chat.answer(*calls)
    (asked,) = said(chat.require_action().events, ActionRequired)
    assert isinstance(asked, ActionRequired)
    assert [it.arguments for it in asked.calls] == [half, "", "{}"]


def test_results_of_the_client_are_committed_in_call_order() -> None:
    """One message in the order of the calls, whatever the order of the results."""
    chat = action()
    done = chat.submit("c2", "c1")
    assert [it.call_id for it in chat.last.results] == ["c1", "c2"]
    assert kinds(done.events) == ["MessageCommitted", "ActionResolved", "StatusChanged"]
    assert said(done.events, ActionResolved) == [
        ActionResolved(chat.turn.id, ActionResolution.SUBMITTED)
    ]


def test_a_failed_client_tool_is_an_error_for_the_model() -> None:
    """The client's flag becomes the kind FAILED; JSON stays JSON."""
    chat = action()
    results = (
        SubmittedResult(ToolCallId("c1"), "no such file", is_json=False, is_error=True),
        SubmittedResult(ToolCallId("c2"), '{"a": 1}', is_json=True),
    )
    chat.do(SubmitToolResults(command_id="x", results=results))
    assert errors(chat) == {"c1": ToolErrorKind.FAILED, "c2": None}
    assert [it.is_json for it in chat.last.results] == [False, True]


def test_every_mismatch_is_named_at_once() -> None:
    """Missing, unexpected and doubled ids and broken JSON: one refusal, nothing written."""
    chat = action()
    before = chat.state
    results = tuple(
        SubmittedResult(ToolCallId(it), output, is_json=True)
        for it, output in [("c1", "{"), ("c1", "1"), ("zz", "nan")]
    )
    with pytest.raises(ToolResultsMismatch) as refused:
        chat.do(SubmitToolResults(command_id="x", results=results))
    assert [(it.field, it.description.split(" ")[-1]) for it in refused.value.violations] == [
        ("results[0].output_json", "text"),
        ("results[1].tool_call_id", "twice"),
        ("results[2].tool_call_id", "call"),
        ("results[2].output_json", "text"),
        ("results", "missing"),
    ]
    assert chat.state is before


def test_the_first_writer_wins() -> None:
    """A second submit meets the status that the first one led to."""
    chat = action()
    chat.submit("c1", "c2")
    with pytest.raises(NotWaitingForAction) as refused:
        chat.submit("c1", "c2")
    assert refused.value.metadata == {"status": "PENDING"}


def test_partial_results_are_kept_and_committed_with_the_last() -> None:
    """Kept results change the state only; the message comes when the set is complete."""
    chat = action()
    done = chat.submit("c2", output="second", partial=True)
    assert (done.reply.missing, done.events) == (("c1",), ())
    assert not chat.results
    chat.submit("c1", output="first")
    assert [it.output for it in chat.last.results] == ["first", "second"]


def test_a_result_that_was_kept_is_not_taken_twice() -> None:
    """A kept result is final, also for the one who sent it."""
    chat = action()
    chat.submit("c1", partial=True)
    with pytest.raises(ToolResultsMismatch, match="already"):
        chat.submit("c1", "c2")


def test_partial_results_that_are_complete_go_on_at_once() -> None:
    """allow_partial does not make a full set wait."""
    chat = action()
    chat.submit("c1", "c2", partial=True)
    assert chat.state.action is None


def test_an_empty_partial_submit_writes_nothing() -> None:
    """Nothing was handed in, so nothing has changed."""
    done = action().submit(partial=True)
    assert not done.changed
    assert done.reply.missing == ("c1", "c2")


def test_a_late_result_counts_until_the_expiry_has_committed() -> None:
    """The order of the two commits decides, not the clock."""
    chat = action()
    chat.now += 3600 * MICROSECONDS
    chat.submit("c1", "c2")
    assert errors(chat) == {"c1": None, "c2": None}


def test_an_expiry_keeps_what_was_handed_in() -> None:
    """Only calls without a result expire; the turn goes on."""
    chat = action()
    chat.submit("c2", partial=True)
    chat.now += 3600 * MICROSECONDS
    done = chat.do(ExpireAction(**chat.hold()))
    assert errors(chat) == {"c1": ToolErrorKind.EXPIRED, "c2": None}
    assert said(done.events, ActionResolved) == [
        ActionResolved(chat.turn.id, ActionResolution.EXPIRED)
    ]
    with pytest.raises(NotWaitingForAction):
        chat.submit("c1")


@pytest.mark.parametrize(
    "leave",
    [
        lambda chat: chat.interrupt(),
        lambda chat: chat.send("instead", BusyBehavior.INTERRUPT),
        lambda chat: chat.do(EditMessage(command_id="x", position=1, parts=(Text("no"),))),
    ],
)
def test_leaving_an_action_otherwise_cancels_it(leave: Callable[[ByHand], object]) -> None:
    """A subscriber learns that the client owes nothing any more."""
    chat = action()
    leave(chat)
    resolved = said(chat.log, ActionResolved)
    assert [it.resolution for it in resolved if isinstance(it, ActionResolved)] == [
        ActionResolution.CANCELLED
    ]
    assert chat.state.action is None


def test_a_message_that_replaces_a_turn_has_an_id_of_its_own() -> None:
    """The results that close the old turn and the message that begins the new one are two."""
    chat = action()
    done = chat.do(
        SendMessage(command_id="x", parts=(Text("instead"),), busy=BusyBehavior.INTERRUPT)
    )
    ids: list[MessageId] = [it.id for it in done.messages]
    assert len(set(ids)) == len(ids) == 2
