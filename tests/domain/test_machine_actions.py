"""The client's calls: asked for last, answered exactly, first writer wins."""

from collections.abc import Callable

import pytest

from chatd_server.domain.chat import ChatConfig
from chatd_server.domain.command import (
    BusyBehavior,
    EditMessage,
    ExpireAction,
    SendMessage,
    SubmittedResult,
    SubmitToolResults,
)
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolution,
    ActionResolved,
)
from chatd_server.domain.ids import MICROSECONDS, MessageId, ToolCallId
from chatd_server.domain.limits import EVENT_PAYLOAD_BYTES_MAX
from chatd_server.domain.message import (
    Executor,
    Text,
    ToolCall,
    ToolErrorKind,
)
from chatd_server.domain.refusal import (
    NotWaitingForAction,
    ToolResultsMismatch,
    WrongStatus,
)
from tests.domain.situations import action, running, running_with
from tests.kit.by_hand import BEGIN, ByHand, call, errors, kinds, open_ids, said


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
        ("results[0].output", "text"),
        ("results[1].call_id", "twice"),
        ("results[2].call_id", "call"),
        ("results[2].output", "text"),
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


@pytest.mark.parametrize(
    "leave",
    [
        lambda chat: chat.interrupt(),
        lambda chat: chat.send("instead", BusyBehavior.INTERRUPT),
    ],
)
def test_a_result_that_was_kept_is_the_outcome_when_the_rest_never_comes(
    leave: Callable[[ByHand], object],
) -> None:
    """What a client has handed in is not lost, though it was not all."""
    chat = action()
    chat.submit("c2", output="kept", partial=True)
    leave(chat)
    assert errors(chat) == {"c1": ToolErrorKind.INTERRUPTED, "c2": None}
    assert chat.results["c2"].output == "kept"


def test_an_edit_removes_results_that_were_kept() -> None:
    """They answer calls that are gone; the model is never told of them."""
    chat = action()
    chat.submit("c2", partial=True)
    chat.do(EditMessage(command_id="x", position=1, parts=(Text("rather"),)))
    assert not chat.state.calls
    assert not chat.results


def test_a_message_that_replaces_a_turn_has_an_id_of_its_own() -> None:
    """The results that close the old turn and the message that begins the new one are two."""
    chat = action()
    done = chat.do(
        SendMessage(command_id="x", parts=(Text("instead"),), busy=BusyBehavior.INTERRUPT)
    )
    ids: list[MessageId] = [it.id for it in done.messages]
    assert len(set(ids)) == len(ids) == 2


@pytest.mark.parametrize(
    "output, word",
    [("{", "not valid JSON"), ("[" * 20_000 + "]" * 20_000, "nested too deeply")],
    ids=["cut", "deep"],
)
def test_a_result_that_cannot_be_read_is_refused_with_what_is_wrong(output: str, word: str) -> None:
    """The model would be told of something that it cannot read."""
    chat = action()
    results = tuple(SubmittedResult(ToolCallId(it), output, is_json=True) for it in ("c1", "c2"))
    with pytest.raises(ToolResultsMismatch) as refused:
        chat.do(SubmitToolResults(command_id="x", results=results))
    assert all(word in it.description for it in refused.value.violations)


def test_a_result_with_a_number_of_any_length_is_taken() -> None:
    """It is valid JSON, and nothing here has to convert it."""
    chat = action()
    chat.submit("c1", "c2", output="9" * 4301, is_json=True)
    assert chat.last.results[0].output == "9" * 4301
