"""One batch of tools: all run in parallel, and each outcome is journalled as it arrives.

A call runs at most once: one that started before a crash runs again only if its tool is
idempotent. The outcome that ends the batch skips the journal: its commit follows at once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.tools import outcome
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
from chatd_server.collector import let_go
from chatd_server.domain.chat import AttemptKind, OpenCall
from chatd_server.domain.ids import AttemptId, Instant, ToolCallId
from chatd_server.domain.limits import TOOL_CANCEL_SECONDS_MAX
from chatd_server.domain.live import CallHead, PieceKind
from chatd_server.domain.machine.calls import NOT_RUN, OUTCOME_UNKNOWN
from chatd_server.domain.message import Executor, ToolErrorKind, ToolResult
from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost
from chatd_server.domain.transition import CallStart
from chatd_server.observe import spans
from chatd_server.ports.live import AttemptWriter
from chatd_server.ports.tools import Tool, ToolContext, ToolOutput


@dataclass(frozen=True)
class Results:
    """The results of a batch, in call order."""

    attempt_id: AttemptId
    results: tuple[ToolResult, ...]
    #: A tool that ends the turn succeeded.
    stop_after: bool


@dataclass(frozen=True)
class BatchPlan:
    """What is decided before any call of the batch runs."""

    #: Results of calls that need not run.
    answered: tuple[ToolResult, ...]
    to_run: tuple[tuple[OpenCall, Tool], ...]


def plan_batch(calls: Sequence[OpenCall], toolbox: Toolbox, now: Instant) -> BatchPlan:
    """Decide which calls run. A call with an outcome in the journal never runs again."""
    answered: list[ToolResult] = []
    to_run: list[tuple[OpenCall, Tool]] = []
    for call in calls:
        tool = toolbox.server_tool(call.name) if call.executor is Executor.SERVER else None
        if call.outcome is not None:
            answered.append(call.outcome)
        elif call.started_at is not None and not (tool is not None and tool.idempotent):
            answered.append(call.error(ToolErrorKind.OUTCOME_UNKNOWN, OUTCOME_UNKNOWN, now))
        elif tool is None:
            answered.append(outcome.invalid(call, toolbox.names, now))
        else:
            to_run.append((call, tool))
    return BatchPlan(tuple(answered), tuple(to_run))


async def run_tools(step: StepDraft, calls: Sequence[OpenCall], held: Held, env: Env) -> Results:
    """Give every call its result.

    Raises Stopped, or ModelFailure when the results together are too large; both only after the
    outcomes of finished tools are in the journal. Raises LeaseLost. A batch in which nothing runs
    is only planned, without an await.
    """
    await held.refresh_tools()
    plan = plan_batch(calls, held.toolbox, env.clock.now())
    attempt_id = held.plan_attempt(AttemptKind.TOOLS)
    found = {known.call_id: known for known in plan.answered}
    if plan.to_run:
        await _begin(plan, step, held, env)
        found |= await _run(plan.to_run, step, held, env)
    return Results(
        attempt_id,
        results=tuple(found[call.id] for call in calls),
        stop_after=any(_ends_turn(found[call.id], held.toolbox) for call in calls),
    )


async def _begin(plan: BatchPlan, step: StepDraft, held: Held, env: Env) -> None:
    """Commit the start of the batch, together with the answer that asks for it; then show it.

    A call that is marked as started counts as started, so nothing may come between the loop's
    check for a stop and this commit.
    """
    now = env.clock.now()
    new = [call for call, _ in plan.to_run if call.started_at is None]
    await held.commit([CallStart(call.id, now) for call in new])
    attempt = held.attempt
    step.begin(attempt.id, env.live.open(held.id, attempt.id, attempt.base_sequence))
    recorded = {call.id for call in held.state.calls if call.outcome is not None}
    for known in plan.answered:
        show = step.writer.add if known.call_id in recorded else step.writer.add_when_committed
        show(0, PieceKind.TOOL_FINISHED, known)
    # The journal has only outcomes of tools that ran; a stop saves these others as shown.
    step.unrecorded.extend(plan.answered)


def _ends_turn(result: ToolResult, toolbox: Toolbox) -> bool:
    tool = toolbox.server_tool(result.name) if result.executor is Executor.SERVER else None
    return tool is not None and tool.ends_turn and result.error is None


async def _run(
    to_run: Sequence[tuple[OpenCall, Tool]], step: StepDraft, held: Held, env: Env
) -> dict[ToolCallId, ToolResult]:
    batch = _Batch(len(to_run), held, env, step.writer)
    try:
        for call, tool in to_run:
            batch.start(call, tool)
        async with held.stop.guard():
            await batch.finish()
    except BaseException:
        await batch.close()
        # The results are not committed now, so the last one is journalled like the others.
        await batch.record_last()
        raise
    finally:
        step.unrecorded.extend(batch.unrecorded)
    return batch.results


class _Batch:
    """The tools that run now. Each call has two tasks: the tool, which a stop cancels, and its
    follower, which nothing cancels. So a finished tool always reaches the journal or ends the
    batch.
    """

    def __init__(self, size: int, held: Held, env: Env, writer: AttemptWriter) -> None:
        #: Calls that have no outcome yet.
        self._left = size
        #: The outcome that ended the batch.
        self._last: ToolResult | None = None
        self._held = held
        self._env = env
        self._writer = writer
        self._tools: dict[ToolCallId, asyncio.Task[ToolOutput]] = {}
        self._followers: list[asyncio.Task[None]] = []
        self._is_cut = False
        #: Set when cancelled tools did not end in time.
        self._given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.results: dict[ToolCallId, ToolResult] = {}
        self._cut: list[ToolResult] = []

    @property
    def unrecorded(self) -> list[ToolResult]:
        """Results that the journal may lack: of calls that a stop cut off, and the last one."""
        return self._cut if self._last is None else [*self._cut, self._last]

    def start(self, call: OpenCall, tool: Tool) -> None:
        """Start a tool and show that it runs."""
        head = CallHead(call.id, call.name, call.executor)
        self._writer.add(0, PieceKind.TOOL_STARTED, head)
        self._env.observer.note(spans.ToolStarted(chat=self._held.id, call=call.id, tool=call.name))
        context = ToolContext(
            chat_id=self._held.id,
            owner_id=self._held.state.owner_id,
            turn_id=self._held.turn.id,
            call_id=call.id,
            called_at=call.created_at,
        )
        self._tools[call.id] = asyncio.create_task(
            _ran(tool, call.arguments, context), name=f"tool {call.name} {call.id}"
        )
        self._followers.append(asyncio.create_task(self._follow(call)))

    async def finish(self) -> None:
        """Wait until each call has its result; raise the first internal error."""
        done, _ = await asyncio.wait(self._followers, return_when=asyncio.FIRST_EXCEPTION)
        for follower in done:
            follower.result()

    async def close(self) -> None:
        """Cancel the running tools and wait briefly; a tool that goes on counts as abandoned."""
        running = [tool for tool in self._tools.values() if not tool.done()]
        if running:
            self._is_cut = True
            for tool in running:
                tool.cancel()
            await self._wait_a_while(running)
        if self._followers:
            await asyncio.wait(self._followers)
        for follower in self._followers:
            # `finish` has raised the first error; the others have the same cause.
            failed = follower.exception()
            if isinstance(failed, LeaseLost | DatabaseUnavailable):
                let_go(failed)
        # A failed task keeps the frames of its traceback, and so this object.
        self._followers, self._tools = [], {}

    async def record_last(self) -> None:
        """Journal the outcome that ended the batch."""
        if self._last is None:
            return
        try:
            await self._env.store.finish_call(self._held.id, self._held.epoch, self._last)
        except (LeaseLost, DatabaseUnavailable) as lost:
            let_go(lost)  # the commit that ends the turn fails as well

    async def _wait_a_while(self, running: Sequence[asyncio.Task[ToolOutput]]) -> None:
        try:
            async with self._env.clock.timeout(TOOL_CANCEL_SECONDS_MAX, "tool.cancel"):
                await asyncio.wait(running)
        except TimeoutError:
            self._given_up.set_result(None)

    async def _follow(self, call: OpenCall) -> None:
        tool = self._tools[call.id]
        ends: set[asyncio.Future[Any]] = {tool, self._given_up}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        now = self._env.clock.now()
        if not tool.done():
            self._abandon(call, tool)
            self._cut.append(outcome.abandoned(call, now))
            return
        if tool.cancelled() and self._is_cut:
            why = ToolErrorKind.INTERRUPTED
            self._cut.append(call.error(why, NOT_RUN[why], now))
            return
        await self._record(_result(call, tool, now))

    async def _record(self, result: ToolResult) -> None:
        self._left -= 1
        if self._left or self._is_cut:
            await self._env.store.finish_call(self._held.id, self._held.epoch, result)
            self._writer.add(0, PieceKind.TOOL_FINISHED, result)
        else:
            self._last = result
            self._writer.add_when_committed(0, PieceKind.TOOL_FINISHED, result)
        self.results[result.call_id] = result
        self._env.observer.note(
            spans.ToolFinished(
                chat=self._held.id, call=result.call_id, tool=result.name, error=result.error
            )
        )

    def _abandon(self, call: OpenCall, tool: asyncio.Task[ToolOutput]) -> None:
        self._env.abandoned.add(tool)
        tool.add_done_callback(self._env.abandoned.discard)
        tool.add_done_callback(_retrieve)
        self._env.observer.note(
            spans.ToolAbandoned(chat=self._held.id, call=call.id, tool=call.name)
        )


async def _ran(tool: Tool, arguments: str, context: ToolContext) -> ToolOutput:
    return await tool.run(arguments, context)


def _result(call: OpenCall, tool: asyncio.Task[ToolOutput], now: Instant) -> ToolResult:
    if tool.cancelled():
        # The tool cancelled itself.
        return outcome.failed(call, RuntimeError("cancelled"), now)
    # `exception()` does not raise here, where a traceback would hold this run in a cycle.
    error = tool.exception()
    if error is not None:
        return outcome.failed(call, error, now)
    try:
        return outcome.result_of(call, tool.result(), now)
    except Exception as odd:  # noqa: BLE001  any bad output becomes an error result
        return outcome.failed(call, odd, now)


def _retrieve(tool: asyncio.Task[ToolOutput]) -> None:
    """Retrieve an abandoned tool's exception, so that asyncio does not log it as unhandled."""
    if not tool.cancelled():
        tool.exception()
