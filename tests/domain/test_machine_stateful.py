"""Random commands in random order: what must hold after each of them, whatever it was."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import AttemptKind, ChatConfig, ChatState, Status, StopReason
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
    FailCompaction,
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
    TellOfChildren,
    UpdateChat,
)
from chatd_server.domain.event import SubagentChanged
from chatd_server.domain.ids import AttemptId, ChatId, MessageId, TurnId
from chatd_server.domain.machine import advance
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    FinishReason,
    Part,
    Text,
    ToolResult,
    Usage,
)
from chatd_server.domain.refusal import LeaseLost, Refused
from chatd_server.domain.transition import CallStart, Transition
from tests.domain.invariants import (
    HELD,
    SETTLED,
    context_agrees,
    fields_agree,
    history_is_valid,
    holds_after,
    is_users,
)
from tests.kit.by_hand import ERROR, ByHand, call

EXECUTORS = st.lists(st.sampled_from(Executor), max_size=4)
USAGES = (
    Usage(),
    Usage(input_tokens=10, cache_read_tokens=5, output_tokens=3, context_limit=100),
    Usage(context_tokens=40),
)
MEANT = st.sampled_from(["any", "open", "other"])


def in_status(*statuses: Status) -> Callable[[Any], Any]:
    """Try a rule in these statuses only: elsewhere the table's test says how it is refused."""
    return precondition(lambda self: self.chat.state.status in statuses)


CHAINED = (
    *("acquire", "model", "tools", "answer", "results", "action"),
    *("retry", "finish", "interrupted", "fail", "release"),
)
"""Commands of a chain, by a short name."""


def sensible(state: ChatState) -> str:
    """Return what a worker would do next: else few random chains get anywhere."""
    if state.status is Status.PENDING or state.lease is None:
        return "acquire"
    if state.status is Status.INTERRUPTING:
        return "interrupted"
    assert state.turn is not None
    attempt = state.turn.attempt
    if attempt is not None and attempt.kind is AttemptKind.MODEL:
        return "answer"
    if any(it.executor is not Executor.CLIENT for it in state.calls):
        return "tools" if attempt is None else "results"
    if state.calls:
        return "action"
    return "model" if state.turn.steps < 2 else "finish"


def refused_in(chat: ByHand, chain: Chain) -> Command | None:
    """Return the command for which a chain is refused."""
    try:
        chat.do(chain)
    except (Refused, LeaseLost) as refusal:
        return refusal.command
    return None


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

    @rule(status=st.sampled_from(Status), archived=st.booleans())
    def tell_of_children(self, status: Status, archived: bool) -> None:
        news = SubagentChanged(ChatId("child"), status, archived=archived)
        self.do(TellOfChildren(command_id=self.x, news=(news,)))

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
    @rule(
        executors=EXECUTORS,
        finish=st.sampled_from(FinishReason),
        fresh=st.booleans(),
        usage=st.sampled_from(USAGES),
    )
    def commit_answer(
        self,
        executors: list[Executor],
        finish: FinishReason,
        fresh: bool,
        usage: Usage = USAGES[0],
    ) -> None:
        if fresh:
            self.start_attempt(AttemptKind.MODEL, stale=False)
        self.do(
            CommitAnswer(
                **self.worker(),
                attempt_id=self.attempt_id(),
                parts=self.parts(executors),
                finish_reason=FinishReason.TOOL_CALLS if executors else finish,
                model="sandbox/any",
                usage=usage,
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
                parts=(Text("go on"), Text("in short")),
                source=CompactionSource.AUTO,
                unanswered=((Text("and?"),),),
            )
        )

    @in_status(Status.RUNNING)
    @rule()
    def fail_compaction(self) -> None:
        self.start_attempt(AttemptKind.COMPACTION, stale=False)
        self.do(
            FailCompaction(
                **self.worker(),
                attempt_id=self.attempt_id(),
                source=CompactionSource.AUTO,
                error=ERROR,
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

    # --- chains ----------------------------------------------------------------------------

    @in_status(Status.PENDING, *HELD)
    @rule(
        odd=st.lists(st.sampled_from([None, None, None, *CHAINED]), min_size=1, max_size=6),
        executors=EXECUTORS,
    )
    def chain(self, odd: list[str | None], executors: list[Executor]) -> None:
        """One commit says what its commands say one by one, or nothing at all."""
        state, commands, steps, refused = self.chat.state, list[Command](), [], False
        for kind in odd:
            command = self._chained(kind or sensible(state), state, executors)
            commands.append(command)
            try:
                step = advance(state, command, self.chat.now)
            except (Refused, LeaseLost):
                refused = True
                break
            steps.append((state, command, step))
            state = step.state
        started = tuple(
            CallStart(it.id, self.chat.now) for it in state.calls if it.executor is Executor.SERVER
        )
        self._send(Chain(tuple(commands), () if refused else started), steps, refused)

    def _send(
        self,
        chain: Chain,
        steps: list[tuple[ChatState, Command, Transition]],
        refused: bool,
    ) -> None:
        before = self.chat.state
        if refused:
            assert refused_in(self.chat, chain) is chain.commands[-1]
            assert self.chat.state is before
            return
        done = self.chat.do(chain)
        for state, command, step in steps:
            holds_after(state, command, step)
        assert done.events == tuple(it for _, _, step in steps for it in step.events)
        assert done.messages == tuple(it for _, _, step in steps for it in step.messages)
        started = {call.call_id: call.started_at for call in chain.started}
        expected = steps[-1][2].state
        for old, new in zip(expected.calls, done.state.calls, strict=True):
            assert new == msgspec.structs.replace(
                old, started_at=started.get(old.id, old.started_at)
            )
        assert msgspec.structs.replace(done.state, calls=expected.calls) == expected

    def _chained(self, kind: str, state: ChatState, executors: list[Executor]) -> Command:
        lease = state.lease
        hold: dict[str, Any] = {
            "command_id": self.x,
            "worker_id": self.worker()["worker_id"] if lease is None else lease.worker_id,
            "epoch": state.epoch,
        }
        attempt = None if state.turn is None else state.turn.attempt
        attempt_id = AttemptId("none") if attempt is None else attempt.id
        ours = [it for it in state.calls if it.executor is not Executor.CLIENT]
        made: dict[str, Callable[[], Command]] = {
            "acquire": lambda: Acquire(**hold, lease_seconds=30.0),
            "model": lambda: StartAttempt(
                **hold, attempt_id=AttemptId(self.x), kind=AttemptKind.MODEL
            ),
            "tools": lambda: StartAttempt(
                **hold, attempt_id=AttemptId(self.x), kind=AttemptKind.TOOLS
            ),
            "answer": lambda: CommitAnswer(
                **hold,
                attempt_id=attempt_id,
                parts=self.parts(executors),
                finish_reason=FinishReason.TOOL_CALLS if executors else FinishReason.END_TURN,
                model="sandbox/any",
            ),
            "results": lambda: CommitResults(
                **hold,
                attempt_id=attempt_id,
                results=tuple(
                    ToolResult(it.id, it.name, "done", it.executor, self.chat.now) for it in ours
                ),
            ),
            "action": lambda: RequireAction(**hold),
            "retry": lambda: ScheduleRetry(
                **hold, attempt_id=attempt_id, delay_seconds=1.5, error=ERROR
            ),
            "finish": lambda: FinishTurn(
                **hold,
                turn_id=TurnId("none") if state.turn is None else state.turn.id,
                stop_reason=StopReason.END_TURN,
            ),
            "interrupted": lambda: FinishInterruption(**hold),
            "fail": lambda: Fail(**hold, error=ERROR),
            "release": lambda: Release(**hold),
        }
        return made[kind]()

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
        context_agrees(state, self.chat.messages)
        history_is_valid(state, self.chat.messages)


def test_any_order_of_commands_keeps_every_rule() -> None:
    """No sequence of commands leads to a chat that breaks an invariant."""
    run_state_machine_as_test(
        ChatUnderRandomCommands,
        settings=settings(max_examples=100, stateful_step_count=50, deadline=None),
    )
