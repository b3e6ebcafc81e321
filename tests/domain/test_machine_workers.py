"""Leases, attempts, rescues: what holds between workers."""

from collections.abc import Callable

import pytest

from chatd_server.domain.chat import AttemptKind, Status, StopReason
from chatd_server.domain.command import (
    Acquire,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    DeleteChat,
    EditMessage,
    Fail,
    FailCompaction,
    FinishInterruption,
    FinishTurn,
    Release,
    Rescue,
    ScheduleRetry,
    SendMessage,
    StartAttempt,
)
from chatd_server.domain.event import ActionRequired, MessageCommitted, RetryScheduled
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.ids import MICROSECONDS, AttemptId, TurnId
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.message import CompactionSource, Executor, FinishReason, Role, Text, Usage
from chatd_server.domain.refusal import ChatNotFound, LeaseLost, WrongStatus
from tests.domain.situations import interrupting, pending, running, taken_over
from tests.kit.by_hand import BEGIN, ERROR, LEASE_SECONDS, ByHand, call, kinds, said

USAGE = Usage(input_tokens=10, output_tokens=5, context_tokens=15)


def lose_worker(chat: ByHand) -> None:
    """Let the lease expire and somebody notice."""
    chat.do(Rescue(**chat.hold()), seconds=LEASE_SECONDS + 1)


# --- rule 4 --------------------------------------------------------------------------------


def test_each_lease_has_a_new_epoch() -> None:
    """Epochs rise for ever, also over releases."""
    chat = pending()
    chat.acquire()
    chat.do(Release(**chat.hold()))
    chat.acquire()
    lease = chat.state.lease
    assert lease is not None
    assert (lease.epoch, chat.state.epoch) == (2, 2)
    assert lease.expires_at == BEGIN + LEASE_SECONDS * MICROSECONDS


def test_an_acquire_that_saw_an_old_epoch_is_too_late() -> None:
    """Two workers ask for the same chat: one of them is told that it lost."""
    chat = pending()
    seen = chat.hold()
    chat.acquire()
    chat.do(Release(**chat.hold()))
    with pytest.raises(LeaseLost):
        chat.do(Acquire(**seen, lease_seconds=LEASE_SECONDS))


def test_a_worker_that_was_overtaken_writes_nothing() -> None:
    """Its epoch is old, or its name is another: the newest lease alone counts."""
    chat = running()
    mine = chat.hold()
    taken_over(chat)
    before = chat.state
    for fenced in (mine, {**chat.hold(), "worker_id": "worker-3"}):
        with pytest.raises(LeaseLost):
            chat.do(Fail(**fenced, error=ERROR))
    assert chat.state is before


def test_a_worker_with_an_expired_lease_may_write_until_it_is_rescued() -> None:
    """The epoch fences, not the clock."""
    chat = running()
    chat.now += 3600 * MICROSECONDS
    chat.answer("late, but mine")
    assert chat.last.role is Role.ASSISTANT


@pytest.mark.parametrize(
    "end",
    [
        lambda chat: chat.finish(),
        lambda chat: chat.fail(),
        lambda chat: chat.do(Release(**chat.hold())),
        lose_worker,
        lambda chat: chat.do(EditMessage(command_id="x", position=1, parts=(Text("a"),))),
        lambda chat: chat.do(DeleteChat(command_id="x")),
    ],
)
def test_whatever_ends_the_run_fences_the_worker(end: Callable[[ByHand], object]) -> None:
    """The lease is cleared by the same transition; deletion says that the chat is gone."""
    chat = running()
    mine = chat.hold()
    end(chat)
    assert chat.state.lease is None
    with pytest.raises((LeaseLost, ChatNotFound)):
        chat.do(Fail(**mine, error=ERROR))


def test_an_interrupt_keeps_the_lease_for_saving() -> None:
    """The worker learns by the refusal of its next commit that it has to stop."""
    chat = running()
    mine = chat.hold()
    attempt_id = chat.attempt()
    chat.interrupt()
    assert chat.state.lease is not None
    answer = CommitAnswer(
        **mine,
        attempt_id=attempt_id,
        parts=(Text("done"),),
        finish_reason=FinishReason.END_TURN,
        model="a/b",
    )
    with pytest.raises(WrongStatus) as refused:
        chat.do(answer)
    assert refused.value.status is Status.INTERRUPTING


def test_an_interruption_whose_worker_died_is_finished_by_another() -> None:
    """Rescued or not, once the lease is over another worker takes it and ends the turn."""
    for rescue in (True, False):
        chat = interrupting()
        if rescue:
            lose_worker(chat)
        else:
            chat.now += round((LEASE_SECONDS + 1) * MICROSECONDS)
        assert not chat.acquire().events, "the status stays"
        chat.do(FinishInterruption(**chat.hold()))
        assert chat.state.stop_reason is StopReason.INTERRUPTED


# --- attempts ------------------------------------------------------------------------------


def test_an_attempt_begins_after_what_is_committed_and_logs_nothing() -> None:
    """Its base is the head of the log; the revision moves, the sequence does not."""
    chat = running()
    before = chat.state
    attempt_id = AttemptId("a")
    done = chat.do(StartAttempt(**chat.hold(), attempt_id=attempt_id, kind=AttemptKind.MODEL))
    attempt = chat.turn.attempt
    assert attempt is not None
    assert (attempt.number, attempt.base_sequence) == (1, before.head_sequence)
    assert (done.events, chat.state.revision) == ((), before.revision + 1)


def test_a_failed_attempt_is_closed_by_the_retry_that_it_leads_to() -> None:
    """The event carries what a client shows; the next attempt has the next number."""
    chat = running()
    failed = chat.attempt()
    done = chat.do(ScheduleRetry(**chat.hold(), attempt_id=failed, delay_seconds=2.5, error=ERROR))
    at = BEGIN + round(2.5 * MICROSECONDS)
    assert done.events[0].event == RetryScheduled(failed, 1, 2.5, at, ERROR, chat.turn.id)
    assert (chat.turn.attempt, chat.turn.next_attempt_at) == (None, at)
    chat.attempt()
    assert chat.turn.attempt is not None
    assert (chat.turn.attempt.number, chat.turn.next_attempt_at) == (2, None)


def test_the_ladder_survives_the_worker() -> None:
    """A release in the middle of a wait keeps count and time of the next attempt."""
    chat = running()
    failed = chat.attempt()
    chat.do(ScheduleRetry(**chat.hold(), attempt_id=failed, delay_seconds=60.0, error=ERROR))
    chat.do(Release(**chat.hold()))
    chat.acquire()
    assert chat.turn.failed_attempts == 1
    assert chat.turn.next_attempt_at == BEGIN + 60 * MICROSECONDS


def test_an_answer_ends_the_ladder_and_counts_a_step() -> None:
    """Failures of one step are no burden for the next; usage adds up over the chat."""
    chat = running()
    failed = chat.attempt()
    chat.do(ScheduleRetry(**chat.hold(), attempt_id=failed, delay_seconds=1.0, error=ERROR))
    attempt_id = chat.attempt()
    done = chat.do(
        CommitAnswer(
            **chat.hold(),
            attempt_id=attempt_id,
            parts=(Text("hello"),),
            finish_reason=FinishReason.END_TURN,
            model="a/b",
            usage=USAGE,
        )
    )
    turn = chat.turn
    assert (turn.steps, turn.failed_attempts, turn.attempt) == (1, 0, None)
    assert done.events[0].event == MessageCommitted(chat.last.position, attempt_id)
    answer = chat.last
    assert (answer.attempt_id, answer.model, answer.usage) == (attempt_id, "a/b", USAGE)
    assert chat.state.usage_total == USAGE


def test_an_interruption_without_numbers_keeps_what_is_known_of_the_context() -> None:
    """The vendor had said nothing yet; that is not the same as an empty context."""
    chat = running()
    attempt_id = chat.attempt()
    chat.do(
        CommitAnswer(
            **chat.hold(),
            attempt_id=attempt_id,
            parts=(call("s1"),),
            finish_reason=FinishReason.TOOL_CALLS,
            model="a/b",
            usage=USAGE,
        )
    )
    chat.interrupt()
    chat.do(FinishInterruption(**chat.hold()))
    assert chat.state.usage_total == USAGE


def test_an_interruption_counts_the_tokens_of_the_partial_answer() -> None:
    """They were spent, whether or not the answer was finished."""
    chat = running()
    attempt_id = chat.attempt()
    chat.interrupt()
    parts = (Text("half"),)
    done = FinishInterruption(**chat.hold(), attempt_id=attempt_id, parts=parts, usage=USAGE)
    chat.do(done)
    assert chat.last.usage == chat.state.usage_total == USAGE


@pytest.mark.parametrize(
    "kind", [CommitAnswer, CommitResults, CommitCompaction, FailCompaction, ScheduleRetry]
)
def test_a_commit_names_the_open_attempt(kind: type) -> None:
    """What belongs to an attempt that is over, or of another kind, is refused."""
    chat = running()
    fields: dict[type, dict[str, object]] = {
        CommitAnswer: {"parts": (), "finish_reason": FinishReason.OTHER, "model": "a/b"},
        CommitResults: {"results": ()},
        CommitCompaction: {"parts": (), "source": CompactionSource.AUTO},
        FailCompaction: {"source": CompactionSource.AUTO, "error": ERROR},
        ScheduleRetry: {"delay_seconds": 1.0, "error": ERROR},
    }
    for attempt_id in (AttemptId("none is open"), AttemptId("another is open")):
        with pytest.raises(WrongStatus):
            chat.do(kind(**chat.hold(), attempt_id=attempt_id, **fields[kind]))
        chat.attempt()
    if kind is not ScheduleRetry:
        other = AttemptKind.MODEL if kind is not CommitAnswer else AttemptKind.COMPACTION
        with pytest.raises(WrongStatus):
            chat.do(kind(**chat.hold(), attempt_id=chat.attempt(other), **fields[kind]))


def test_no_model_is_called_while_calls_are_open() -> None:
    """A history with a call that has no result is one that no vendor takes."""
    chat = running()
    chat.answer(call("s1"))
    with pytest.raises(WrongStatus):
        chat.attempt(AttemptKind.MODEL)


def test_no_batch_begins_without_a_call_of_ours() -> None:
    """The client's calls are the client's."""
    chat = running()
    chat.answer(call("c1", Executor.CLIENT))
    with pytest.raises(WrongStatus):
        chat.attempt(AttemptKind.TOOLS)


def test_a_tool_that_ends_the_turn_is_remembered_for_the_next_worker() -> None:
    """It is part of the record, and stays when another batch is committed."""
    chat = running()
    chat.answer(call("s1"))
    attempt_id = chat.attempt(AttemptKind.TOOLS)
    results = (chat.result("s1"),)
    chat.do(CommitResults(**chat.hold(), attempt_id=attempt_id, results=results, stop_after=True))
    assert chat.turn.stop_after
    chat.answer(call("s2"))
    chat.batch("s2")
    assert chat.turn.stop_after


def test_giving_a_chat_back_ends_the_attempt() -> None:
    """What was shown of it is void; the next worker begins another."""
    for give_back in (lambda c: c.do(Release(**c.hold())), lose_worker):
        chat = running()
        chat.attempt()
        give_back(chat)
        assert chat.turn.attempt is None


def test_the_end_of_a_turn_that_is_not_open_is_refused() -> None:
    """A worker that mixes turns up does not end the wrong one."""
    chat = running()
    with pytest.raises(WrongStatus):
        chat.do(FinishTurn(**chat.hold(), turn_id=TurnId("old"), stop_reason=StopReason.END_TURN))


# --- rescue --------------------------------------------------------------------------------


def test_the_sixth_rescue_in_a_row_fails_the_turn() -> None:
    """A turn that kills its workers does not kill them for ever."""
    chat = pending()
    for _ in range(RESCUES_MAX):
        chat.acquire()
        lose_worker(chat)
        assert chat.state.status is Status.PENDING
    chat.acquire()
    lose_worker(chat)
    assert chat.state.status is Status.ERROR
    assert chat.state.last_error is not None
    assert chat.state.last_error.kind is ErrorKind.WORKER_LOST


@pytest.mark.parametrize("progress", ["answer", "results", "compaction", "a new turn"])
def test_progress_resets_the_count_of_rescues(progress: str) -> None:
    """Only rescues in a row count."""
    chat = running()
    chat.answer(call("s1"))
    lose_worker(chat)
    chat.acquire()
    assert chat.state.rescues == 1
    if progress == "compaction":
        attempt_id = chat.attempt(AttemptKind.COMPACTION)
        chat.do(
            CommitCompaction(
                **chat.hold(),
                attempt_id=attempt_id,
                parts=(Text("in short"),),
                source=CompactionSource.AUTO,
            )
        )
    elif progress == "a new turn":
        chat.finish()
        chat.do(SendMessage(command_id="x", parts=(Text("next"),)))
    else:
        chat.batch("s1")
        lose_worker(chat)
        chat.acquire()
        assert chat.state.rescues == 1, "the results were progress, this rescue is the first"
    if progress == "answer":
        chat.answer("done")
    assert chat.state.rescues == (1 if progress == "results" else 0)


def test_a_release_is_no_rescue() -> None:
    """A worker that leaves in good order counts for nothing."""
    chat = pending()
    for _ in range(RESCUES_MAX + 2):
        chat.acquire()
        chat.do(Release(**chat.hold()))
    assert (chat.state.rescues, chat.state.status) == (0, Status.PENDING)


def test_a_whole_turn_with_tools_of_ours_and_of_the_clients() -> None:
    """The events of a turn as a subscriber reads them."""
    chat = pending()
    chat.acquire()
    chat.answer("Let me look.", call("s1"), call("c1", Executor.CLIENT))
    chat.batch("s1")
    chat.require_action()
    chat.submit("c1")
    chat.acquire()
    chat.answer("There.")
    chat.finish()
    assert kinds(chat.log) == [
        "ChatUpdated",
        "MessageCommitted",  # the user's
        "StatusChanged",  # pending
        "StatusChanged",  # running
        "MessageCommitted",  # the answer
        "MessageCommitted",  # our result
        "ActionRequired",
        "StatusChanged",  # requires action
        "MessageCommitted",  # the client's result
        "ActionResolved",
        "StatusChanged",  # pending
        "StatusChanged",  # running
        "MessageCommitted",  # the answer
        "StatusChanged",  # waiting
    ]
    assert len(said(chat.log, ActionRequired)) == 1
    assert [it.role for it in chat.messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.TOOL,
        Role.ASSISTANT,
    ]
