"""Errors, the context, and the fields of a chat."""

from collections.abc import Callable

import pytest

from chatd_server.domain.chat import (
    AttemptKind,
    Status,
    StopReason,
)
from chatd_server.domain.command import (
    ClearContext,
    CommitCompaction,
    DeleteChat,
    EditMessage,
    FailCompaction,
    RequestCompaction,
    RetryTurn,
    SetArchived,
    SetTitle,
    UpdateChat,
)
from chatd_server.domain.context import ContextLevel, ContextUse
from chatd_server.domain.event import ChatUpdated, CompactionFinished, CompactionOutcome
from chatd_server.domain.ids import TurnId
from chatd_server.domain.limits import SUMMARY_SHOWN_BYTES_MAX
from chatd_server.domain.message import CompactionSource, Role, Text, Usage, Visibility
from chatd_server.domain.refusal import (
    EtagMismatch,
    NothingToCompact,
    WrongStatus,
)
from tests.domain.situations import (
    error,
    error_with_queue,
    pending,
    queued,
    running,
    waiting,
)
from tests.kit.by_hand import ERROR, ByHand, kinds, texts, told

OTHER = TurnId("another turn")
LEVEL = ContextLevel(ContextUse(800, answer_tokens=100), 1000, 70.0)


# --- error and retry -----------------------------------------------------------------------


def test_a_failed_turn_keeps_its_queue_and_says_why() -> None:
    """Nothing is promoted: a person decides."""
    chat = queued(running)()
    old, head = chat.turn.id, chat.state.head_sequence
    chat.fail()
    assert told(chat, head) == [(Status.ERROR, old, StopReason.ERROR)]
    assert chat.state.last_error == ERROR
    assert texts(chat) == ["later", "last"]


def test_a_retry_is_the_same_turn_again() -> None:
    """No new message, a full ladder of attempts, and no error."""
    chat = error()
    old = chat.turn
    messages = list(chat.messages)
    chat.do(RetryTurn(command_id="x"))
    assert (chat.turn.id, chat.turn.steps) == (old.id, 1)
    assert (chat.turn.failed_attempts, chat.state.last_error) == (0, None)
    assert chat.messages == messages


@pytest.mark.parametrize(
    "leave",
    [
        lambda chat: chat.send("again"),
        lambda chat: chat.do(RetryTurn(command_id="x")),
        lambda chat: chat.do(RequestCompaction(command_id="x")),
        lambda chat: chat.do(ClearContext(command_id="x")),
        lambda chat: chat.do(EditMessage(command_id="x", position=1, parts=(Text("a"),))),
        lambda chat: chat.do(DeleteChat(command_id="x")),
    ],
)
def test_leaving_error_clears_the_error(leave: Callable[[ByHand], object]) -> None:
    """Rule 3, whichever way out is taken; the event says so too."""
    chat = error()
    leave(chat)
    assert chat.state.last_error is None


def test_archiving_keeps_the_error() -> None:
    """Rule 3: archiving does not leave the status."""
    chat = error()
    chat.do(SetArchived(command_id="x", archived=True))
    assert (chat.state.archived, chat.state.last_error) == (True, ERROR)


# --- context -------------------------------------------------------------------------------


def test_a_compaction_moves_the_boundary_to_its_summary() -> None:
    """The summary is for the model only, and the context begins with it."""
    chat = waiting()
    chat.do(RequestCompaction(command_id="x"))
    assert chat.turn.compaction_requested
    chat.acquire()
    attempt_id = chat.attempt(AttemptKind.COMPACTION)
    done = chat.do(
        CommitCompaction(
            **chat.hold(),
            attempt_id=attempt_id,
            parts=(Text("Go on: "), Text("in short")),
            source=CompactionSource.MANUAL,
            level=LEVEL,
            unanswered=((Text("and this?"),), (Text("still there?"),)),
            model="a/small",
            usage=Usage(output_tokens=7, context_tokens=900),
        )
    )
    summary, *kept = done.messages
    assert [(it.role, it.visibility, it.compressed) for it in done.messages] == [
        (Role.USER, Visibility.MODEL, True)
    ] * 3
    assert (summary.summary_for, summary.model) == (CompactionSource.MANUAL, "a/small")
    assert [it.parts for it in kept] == [(Text("and this?"),), (Text("still there?"),)]
    assert done.events[3].event == CompactionFinished(
        CompactionSource.MANUAL,
        summary.position,
        tokens_before=900,
        tokens_after=9,
        summary="in short",
        used_percent=90.0,
        threshold_percent=70.0,
        limit=1000,
    )
    assert chat.state.boundary_position == summary.position
    assert chat.state.usage_total == Usage(output_tokens=7)
    assert (chat.turn.compactions, chat.turn.attempt) == (1, None)
    chat.finish(StopReason.COMPACTED)
    with pytest.raises(NothingToCompact):
        chat.do(RequestCompaction(command_id="x"))


def test_a_compaction_that_failed_changes_no_context_and_counts() -> None:
    """Its event closes the attempt and says why; the turn goes on until another answer counts."""
    chat = running()
    chat.answer("hello")
    attempt_id = chat.attempt(AttemptKind.COMPACTION)
    before = chat.state
    cost = Usage(input_tokens=3)
    done = chat.do(
        FailCompaction(
            **chat.hold(),
            attempt_id=attempt_id,
            source=CompactionSource.AUTO,
            error=ERROR,
            level=LEVEL,
            usage=cost,
        )
    )
    assert [it.event for it in done.events] == [
        CompactionFinished(
            CompactionSource.AUTO,
            before.boundary_position,
            tokens_before=900,
            outcome=CompactionOutcome.FAILED,
            attempt_id=attempt_id,
            used_percent=90.0,
            threshold_percent=70.0,
            limit=1000,
            error=ERROR,
        )
    ]
    assert (chat.state.context, chat.state.next_position) == (before.context, before.next_position)
    assert (chat.turn.compactions, chat.turn.compaction_failed) == (1, True)
    assert (chat.turn.attempt, chat.state.usage_total) == (None, cost)
    chat.answer("more")
    assert (chat.turn.compactions, chat.turn.compaction_failed) == (1, False)


def test_a_turn_that_is_tried_again_may_compact_again() -> None:
    """Somebody may have mended what made it fail."""
    chat = running()
    chat.answer("hello")
    attempt_id = chat.attempt(AttemptKind.COMPACTION)
    auto = CompactionSource.AUTO
    chat.do(FailCompaction(**chat.hold(), attempt_id=attempt_id, source=auto, error=ERROR))
    chat.fail()
    chat.do(RetryTurn(command_id="x"))
    assert (chat.turn.compactions, chat.turn.compaction_failed) == (0, False)


def test_a_long_summary_is_cut_in_the_event_and_whole_in_the_message() -> None:
    """The payload of an event is bounded, also in a script of several bytes."""
    chat = running()
    chat.answer("hello")
    attempt_id = chat.attempt(AttemptKind.COMPACTION)
    parts = (Text("Go on: "), Text("ä" * 300_000))
    auto = CompactionSource.AUTO
    done = chat.do(CommitCompaction(**chat.hold(), attempt_id=attempt_id, parts=parts, source=auto))
    assert done.messages[0].parts == parts
    event = done.events[1].event
    assert isinstance(event, CompactionFinished)
    assert len(event.summary.encode()) <= SUMMARY_SHOWN_BYTES_MAX
    assert event.summary.endswith("[cut: the message has the whole summary]")


def test_an_empty_chat_has_nothing_to_compact() -> None:
    """The refusal names the status, like every other of its kind."""
    chat = ByHand()
    chat.create()
    with pytest.raises(NothingToCompact) as refused:
        chat.do(RequestCompaction(command_id="x"))
    assert refused.value.metadata == {"status": "WAITING"}


def test_messages_that_nobody_has_answered_are_nothing_to_compact() -> None:
    """They would be kept as they are."""
    chat = running()
    chat.fail()
    chat.send("and this?")
    chat.acquire()
    chat.fail()
    with pytest.raises(NothingToCompact):
        chat.do(RequestCompaction(command_id="x"))


def test_clearing_the_context_sets_a_boundary_without_a_summary() -> None:
    """The next message is the first of the context; doing it twice writes once."""
    chat = waiting()
    done = chat.do(ClearContext(command_id="x"))
    assert chat.state.boundary_position == chat.state.next_position
    assert kinds(done.events) == ["CompactionFinished"]
    assert not chat.do(ClearContext(command_id="x")).changed


def test_clearing_the_context_gives_a_failed_turn_up() -> None:
    """With a queue it is refused: the queue would begin without a request."""
    chat = error()
    chat.do(ClearContext(command_id="x"))
    assert (chat.state.status, chat.state.turn) == (Status.WAITING, None)
    with pytest.raises(WrongStatus):
        error_with_queue().do(ClearContext(command_id="x"))


# --- fields --------------------------------------------------------------------------------


def test_an_update_tells_only_what_differs() -> None:
    """The version rises once, whatever the number of fields."""
    chat = pending()
    done = chat.do(UpdateChat(command_id="x", title="old", model="a/b", system_prompt="x" * 3000))
    assert done.events[0].event == ChatUpdated(model="a/b", system_prompt="x" * 1000)
    assert chat.state.config.version == 2
    assert chat.state.config.system_prompt == "x" * 3000


def test_an_update_with_an_old_etag_is_refused() -> None:
    """Somebody else changed the chat in between."""
    chat = pending()
    chat.do(UpdateChat(command_id="x", title="first", etag_version=1))
    with pytest.raises(EtagMismatch):
        chat.do(UpdateChat(command_id="x", title="second", etag_version=1))
    chat.do(SetTitle(command_id="x", title="third"))
    assert chat.state.config.version == 3


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    """The etag is compared all the same."""
    chat = pending()
    assert not chat.do(UpdateChat(command_id="x", title="old", etag_version=1)).changed
    assert not chat.do(SetTitle(command_id="x", title="old")).changed
    with pytest.raises(EtagMismatch):
        chat.do(UpdateChat(command_id="x", title="old", etag_version=7))


def test_a_deleted_chat_has_no_turn_no_queue_and_no_worker() -> None:
    """Whoever works on it is fenced, and no query for work finds it."""
    chat = queued(running)()
    head = chat.state.head_sequence
    chat.do(DeleteChat(command_id="x"))
    state = chat.state
    assert (state.deleted, state.lease, state.queue, state.turn) == (True, None, (), None)
    assert [it[2] for it in told(chat, head)] == [StopReason.INTERRUPTED]


def test_a_title_that_names_what_it_replaces_replaces_nothing_else() -> None:
    """What a model wrote comes late; a title that somebody set meanwhile stays."""
    chat = pending()
    chat.do(SetTitle(command_id="x", title="mine"))
    assert not chat.do(SetTitle(command_id="y", title="late", replaces="first words")).changed
    assert chat.state.config.title == "mine"
    chat.do(SetTitle(command_id="z", title="better", replaces="mine"))
    assert chat.state.config.title == "better"
