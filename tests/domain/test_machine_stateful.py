"""Random commands in random order: what must hold after each of them, whatever it was."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chatd_server.domain.chat import AttemptKind, ChatConfig, Status, StopReason
from chatd_server.domain.command import (
    Acquire,
    BusyBehavior,
    ClearContext,
    Command,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    DeleteChat,
    DeleteQueued,
    EditMessage,
    ExpireAction,
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    PromoteQueued,
    Release,
    ReorderQueue,
    RequestCompaction,
    RequireAction,
    Rescue,
    RetryTurn,
    ScheduleRetry,
    SendMessage,
    SetArchived,
    SetTitle,
    StartAttempt,
    SubmittedResult,
    SubmitToolResults,
    UpdateChat,
)
from chatd_server.domain.event import CompactionSource
from chatd_server.domain.ids import AttemptId, MessageId, TurnId
from chatd_server.domain.message import Executor, FinishReason, Part, Text
from chatd_server.domain.refusal import LeaseLost, Refused
from tests.domain.invariants import (
    HELD,
    SETTLED,
    fields_agree,
    history_is_valid,
    holds_after,
    is_users,
)
from tests.kit.by_hand import ERROR, ByHand, call

EXECUTORS = st.lists(st.sampled_from(Executor), max_size=4)
MEANT = st.sampled_from(["any", "open", "other"])


def in_status(*statuses: Status) -> Callable[[Any], Any]:
    """Try a rule in these statuses only: elsewhere the table's test says how it is refused."""
    return precondition(lambda self: self.chat.state.status in statuses)


class ChatUnderRandomCommands(RuleBasedStateMachine):
    """One chat. A refused command is as good as any: it must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.chat = ByHand()
        self.calls = 0

    def do(self, command: Command) -> None:
        before = self.chat.state
        try:
            done = self.chat.do(command)
        except (Refused, LeaseLost):
            assert self.chat.state is before
            return
        holds_after(before, command, done)

    @property
    def x(self) -> str:
        return self.chat.command_id()

    def worker(self, *, stale: bool = False) -> dict[str, Any]:
        hold = self.chat.hold()
        return {**hold, "epoch": hold["epoch"] - 1} if stale else hold

    def parts(self, executors: list[Executor]) -> tuple[Part, ...]:
        made: list[Part] = [Text("words")]
        for executor in executors:
            self.calls += 1
            made.append(call(f"call-{self.calls}", executor))
        return tuple(made)

    def attempt_id(self) -> AttemptId:
        turn = self.chat.state.turn
        return AttemptId("none") if turn is None or turn.attempt is None else turn.attempt.id

    def queued(self, index: int) -> MessageId:
        queue = self.chat.state.queue
        return queue[index % len(queue)].id if queue else MessageId("absent")

    def meant(self, which: str) -> TurnId | None:
        turn = self.chat.state.turn
        if which == "any":
            return None
        return TurnId("other") if which == "other" or turn is None else turn.id

    # --- clients ---------------------------------------------------------------------------

    @initialize(text=st.sampled_from(["", "hello"]), title=st.sampled_from(["", "a title"]))
    def create(self, text: str, title: str) -> None:
        self.chat.create(text, ChatConfig(title=title, action_timeout_seconds=60.0))

    @rule(busy=st.sampled_from(BusyBehavior), which=MEANT)
    def send(self, busy: BusyBehavior, which: str) -> None:
        parts = (Text(self.x),)
        turn_id = self.meant(which)
        self.do(SendMessage(command_id=self.x, parts=parts, busy=busy, expected_turn_id=turn_id))

    @rule(index=st.integers(0, 5))
    def edit(self, index: int) -> None:
        own = [it.position for it in self.chat.messages if is_users(it)]
        position = own[index % len(own)] if own else index
        self.do(EditMessage(command_id=self.x, position=position, parts=(Text("edited"),)))

    @rule(which=MEANT)
    def interrupt(self, which: str) -> None:
        self.do(Interrupt(command_id=self.x, expected_turn_id=self.meant(which)))

    @in_status(Status.REQUIRES_ACTION)
    @rule(data=st.data(), partial=st.booleans())
    def submit(self, data: st.DataObject, partial: bool) -> None:
        waiting = [it.id for it in self.chat.state.calls if it.outcome is None]
        chosen = data.draw(st.lists(st.sampled_from(waiting), unique=True)) if partial else waiting
        results = tuple(SubmittedResult(it, "1", is_json=True) for it in chosen)
        self.do(SubmitToolResults(command_id=self.x, results=results, allow_partial=partial))

    @rule(index=st.integers(0, 5))
    def delete_queued(self, index: int) -> None:
        self.do(DeleteQueued(command_id=self.x, message_id=self.queued(index)))

    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        ids = data.draw(st.permutations([it.id for it in self.chat.state.queue]))
        self.do(ReorderQueue(command_id=self.x, message_ids=tuple(ids)))

    @rule(index=st.integers(0, 5))
    def promote(self, index: int) -> None:
        self.do(PromoteQueued(command_id=self.x, message_id=self.queued(index)))

    @in_status(*SETTLED)
    @rule(kind=st.sampled_from([RetryTurn, RequestCompaction, ClearContext]))
    def go_on(self, kind: type[Any]) -> None:
        self.do(kind(command_id=self.x))

    @rule(title=st.sampled_from([None, "", "b"]), labels=st.sampled_from([None, {}, {"a": "1"}]))
    def update(self, title: str | None, labels: dict[str, str] | None) -> None:
        self.do(UpdateChat(command_id=self.x, title=title, labels=labels))

    @rule(title=st.sampled_from(["", "c"]))
    def set_title(self, title: str) -> None:
        self.do(SetTitle(command_id=self.x, title=title))

    @in_status(*SETTLED)
    @rule(archived=st.booleans())
    def set_archived(self, archived: bool) -> None:
        self.do(SetArchived(command_id=self.x, archived=archived))

    # --- workers ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.chat.now += round(seconds * 1_000_000)

    @in_status(Status.PENDING, Status.INTERRUPTING)
    @rule(stale=st.booleans())
    def acquire(self, stale: bool) -> None:
        self.do(Acquire(**self.worker(stale=stale), lease_seconds=30.0))

    @in_status(Status.RUNNING)
    @rule(kind=st.sampled_from(AttemptKind), stale=st.booleans())
    def start_attempt(self, kind: AttemptKind, stale: bool) -> None:
        hold = self.worker(stale=stale)
        self.do(StartAttempt(**hold, attempt_id=AttemptId(self.x), kind=kind))

    @in_status(Status.RUNNING)
    @rule()
    def schedule_retry(self) -> None:
        attempt_id = self.attempt_id()
        self.do(
            ScheduleRetry(**self.worker(), attempt_id=attempt_id, delay_seconds=1.5, error=ERROR)
        )

    @in_status(Status.RUNNING)
    @rule(executors=EXECUTORS, finish=st.sampled_from(FinishReason), fresh=st.booleans())
    def commit_answer(self, executors: list[Executor], finish: FinishReason, fresh: bool) -> None:
        if fresh:
            self.start_attempt(AttemptKind.MODEL, stale=False)
        self.do(
            CommitAnswer(
                **self.worker(),
                attempt_id=self.attempt_id(),
                parts=self.parts(executors),
                finish_reason=FinishReason.TOOL_CALLS if executors else finish,
                model="sandbox/any",
            )
        )

    @in_status(Status.RUNNING)
    @rule(executors=EXECUTORS)
    def commit_cut_answer(self, executors: list[Executor]) -> None:
        self.start_attempt(AttemptKind.MODEL, stale=False)
        self.do(
            CommitAnswer(
                **self.worker(),
                attempt_id=self.attempt_id(),
                parts=self.parts(executors),
                finish_reason=FinishReason.MAX_TOKENS,
                model="sandbox/any",
            )
        )

    @in_status(Status.RUNNING)
    @rule(stop_after=st.booleans())
    def commit_results(self, stop_after: bool) -> None:
        self.start_attempt(AttemptKind.TOOLS, stale=False)
        ours = [it.id for it in self.chat.state.calls if it.executor is not Executor.CLIENT]
        self.do(
            CommitResults(
                **self.worker(),
                attempt_id=self.attempt_id(),
                results=tuple(self.chat.result(it) for it in reversed(ours)),
                stop_after=stop_after,
            )
        )

    @in_status(Status.RUNNING)
    @rule()
    def commit_compaction(self) -> None:
        self.start_attempt(AttemptKind.COMPACTION, stale=False)
        self.do(
            CommitCompaction(
                **self.worker(),
                attempt_id=self.attempt_id(),
                parts=(Text("in short"),),
                source=CompactionSource.AUTO,
            )
        )

    @precondition(lambda self: self.chat.state.calls)
    @rule(index=st.integers(0, 3), finished=st.booleans())
    def write_journal(self, index: int, finished: bool) -> None:
        ours = [it.id for it in self.chat.state.calls if it.executor is Executor.SERVER]
        if ours and self.chat.state.status in HELD:
            call_id = ours[index % len(ours)]
            self.chat.journal(call_id, outcome=self.chat.result(call_id) if finished else None)

    @in_status(Status.RUNNING)
    @rule(stale=st.booleans())
    def require_action(self, stale: bool) -> None:
        self.do(RequireAction(**self.worker(stale=stale)))

    @in_status(Status.RUNNING)
    @rule(why=st.sampled_from(StopReason))
    def finish_turn(self, why: StopReason) -> None:
        self.do(FinishTurn(**self.worker(), turn_id=self.chat.turn.id, stop_reason=why))

    @in_status(Status.INTERRUPTING)
    @rule(executors=EXECUTORS, partial=st.booleans())
    def finish_interruption(self, executors: list[Executor], partial: bool) -> None:
        known = "" if self.attempt_id() == "none" else self.attempt_id()
        parts = self.parts(executors) if partial else ()
        self.do(FinishInterruption(**self.worker(), attempt_id=AttemptId(known), parts=parts))

    @in_status(Status.RUNNING)
    @rule(command=st.sampled_from([Release, Rescue]))
    def give_back(self, command: type[Any]) -> None:
        self.do(command(**self.worker()))

    @in_status(Status.RUNNING)
    @rule()
    def fail(self) -> None:
        self.do(Fail(**self.worker(), error=ERROR))

    @in_status(*HELD)
    @rule()
    def rescue_after_the_lease(self) -> None:
        self.time_passes(31.0)
        self.do(Rescue(**self.worker()))

    @in_status(*HELD)
    @rule()
    def lose_workers(self) -> None:
        """Seven in a row: one more than a turn survives."""
        for _ in range(7):
            if self.chat.state.lease is not None:
                self.rescue_after_the_lease()
            self.acquire(stale=False)

    @in_status(Status.RUNNING)
    @rule(kind=st.sampled_from(AttemptKind), executors=EXECUTORS)
    def interrupt_an_attempt(self, kind: AttemptKind, executors: list[Executor]) -> None:
        self.start_attempt(kind, stale=False)
        self.interrupt("open")
        self.finish_interruption(executors, partial=kind is AttemptKind.MODEL)

    @in_status(Status.REQUIRES_ACTION)
    @rule(seconds=st.sampled_from([0.0, 61.0]))
    def expire_action(self, seconds: float) -> None:
        self.time_passes(seconds)
        self.do(ExpireAction(**self.worker()))

    @rule(steps=st.integers(1, 8), executors=EXECUTORS)
    def go_on_as_a_worker_does(self, steps: int, executors: list[Executor]) -> None:
        """Without this, few random orders get as far as a client's action."""
        for _ in range(steps):
            self._next_step(executors)

    def _next_step(self, executors: list[Executor]) -> None:
        state = self.chat.state
        if state.status is Status.PENDING or (state.status in HELD and state.lease is None):
            self.acquire(stale=False)
        elif state.status is Status.INTERRUPTING:
            self.finish_interruption(executors, partial=True)
        elif state.status is Status.REQUIRES_ACTION and state.action is not None:
            first = next(it.id for it in state.calls if it.outcome is None)
            results = (SubmittedResult(first, "1", is_json=True),)
            self.do(SubmitToolResults(command_id=self.x, results=results, allow_partial=True))
        elif state.status is Status.RUNNING and not state.calls:
            self.commit_answer(executors, FinishReason.END_TURN, fresh=True)
        elif any(it.executor is not Executor.CLIENT for it in state.calls):
            self.commit_results(stop_after=False)
        elif state.status is Status.RUNNING:
            self.require_action(stale=False)

    def teardown(self) -> None:
        if self.chat.maybe is not None:
            self.do(DeleteChat(command_id=self.x))
            self.holds()
            assert self.chat.state.deleted

    # --- what holds ------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if self.chat.maybe is None:
            return
        state = self.chat.state
        fields_agree(state)
        history_is_valid(state, self.chat.messages)


def test_any_order_of_commands_keeps_every_rule() -> None:
    """No sequence of commands leads to a chat that breaks an invariant."""
    run_state_machine_as_test(
        ChatUnderRandomCommands,
        settings=settings(max_examples=100, stateful_step_count=50, deadline=None),
    )
