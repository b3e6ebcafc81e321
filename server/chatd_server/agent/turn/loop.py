"""The loop of one turn, from the state in the database. All control flow of a turn is here.

One commit begins each wait (for the model, for tools): it holds the result of the wait before and
everything that follows from it. The last commit ends the run.
"""

from chatd_server.agent.compaction.decide import helps_against
from chatd_server.agent.compaction.summarise import Summary, level_of, summarise
from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.model.retry import ask_model
from chatd_server.agent.tools.batch import Results, run_tools
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
from chatd_server.agent.turn.next_action import (
    Action,
    AskClient,
    CallModel,
    Compact,
    Finish,
    RunTools,
    next_action,
)
from chatd_server.agent.turn.stop import StopCause, Stopped
from chatd_server.collector import let_go
from chatd_server.domain.chat import Status
from chatd_server.domain.command import (
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    Fail,
    FailCompaction,
    FinishInterruption,
    FinishTurn,
    Release,
    RequireAction,
)
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.failure import ChatError, ErrorKind, ModelFailure
from chatd_server.domain.message import CompactionSource
from chatd_server.domain.refusal import ModelNotFound


async def run_turn(held: Held, env: Env) -> None:
    """Run the turn until it is over, the client must act, or a stop arrives.

    Writes a model failure after the last retry. Raises LeaseLost and DatabaseUnavailable.
    """
    step = StepDraft(env.clock)
    try:
        try:
            await _take_steps(step, held, env)
        except ModelFailure as failed:
            let_go(failed)
            await _fail(failed.error, held)
        except ModelNotFound as missing:
            let_go(missing)
            await _fail(ChatError(kind=ErrorKind.CONFIG, message=str(missing)), held)
    except Stopped as stopped:
        let_go(stopped)
        await _end_stopped(stopped.cause, step, held)
    finally:
        step.abandon()


async def write_failure(error: ChatError, held: Held, env: Env) -> None:
    """End the turn with an internal error, unless the user interrupted it first."""
    try:
        await _fail(error, held)
    except Stopped as stopped:
        let_go(stopped)
        await _end_stopped(stopped.cause, StepDraft(env.clock), held)


async def _take_steps(step: StepDraft, held: Held, env: Env) -> None:
    if held.state.status is Status.INTERRUPTING:
        held.stop.request(StopCause.INTERRUPTED)
    held.stop.check()
    held.choose_model()
    while True:
        held.stop.check()
        match _next(held, env):
            case CallModel():
                if await _is_answered(step, held, env):
                    _plan_answer(step, held)
                elif not await _compact(CompactionSource.AUTO, step, held, env, must=True):
                    return None
            case Compact(source):
                if not await _compact(source, step, held, env):
                    return None
            case RunTools(calls):
                results = await run_tools(step, calls, held, env)
                _plan_results(results, held)
            case AskClient():
                held.plan(RequireAction(**held.signed_once("action")))
                return await _commit_end(step, held)
            case Finish(reason):
                finish = held.signed_once("finish")
                held.plan(FinishTurn(**finish, turn_id=held.turn.id, stop_reason=reason))
                return await _commit_end(step, held)


def _next(held: Held, env: Env) -> Action:
    # Most contexts are not counted yet, or far from full; of these no model is looked up.
    is_full = held.context.counted_tokens is not None and level_of(held, env).is_due
    return next_action(held.history, held.turn, held.state.calls, is_full=is_full)


async def _is_answered(step: StepDraft, held: Held, env: Env) -> bool:
    """Call the model; return False if it refused the context, and a compaction may help."""
    try:
        await ask_model(step, held, env)
    except ModelFailure as refused:
        if not helps_against(refused.error, held.turn, held.prompt.messages):
            raise
        let_go(refused)
        step.abandon()
        return False
    return True


async def _compact(
    source: CompactionSource, step: StepDraft, held: Held, env: Env, *, must: bool = False
) -> bool:
    """Plan a summary, or its failure; return whether the turn goes on.

    It does not when the summary was all that was wanted, or the model cannot be called without it
    (`must`: the model has said so).
    """
    level = level_of(held, env)
    try:
        summary = await summarise(source, step, held, env)
    except ModelFailure as failed:
        let_go(failed)
        error = failed.error
    else:
        _plan_summary(source, summary, level, step, held)
        return True
    held.plan(
        FailCompaction(
            **held.signed(step.attempt_id, "no_summary"),
            attempt_id=step.attempt_id,
            source=source,
            error=error,
            level=level,
            usage=step.usage,
        )
    )
    step.abandon()
    if source is CompactionSource.AUTO and level.has_room and not must:
        return True
    held.plan(Fail(**held.signed_once("fail"), error=error))
    await _commit_end(step, held)
    return False


def _plan_summary(
    source: CompactionSource, summary: Summary, level: ContextLevel, step: StepDraft, held: Held
) -> None:
    held.plan(
        CommitCompaction(
            **held.signed(step.attempt_id, "summary"),
            attempt_id=step.attempt_id,
            parts=summary.parts,
            source=source,
            level=level,
            unanswered=summary.unanswered,
            model=summary.model,
            usage=step.usage,
        )
    )


def _plan_answer(step: StepDraft, held: Held) -> None:
    """Plan to commit the answer, together with the start of its tools and before any runs."""
    answer = step.seal()
    held.plan(
        CommitAnswer(
            **held.signed(step.attempt_id, "answer"),
            attempt_id=step.attempt_id,
            parts=answer.parts,
            finish_reason=answer.finish_reason,
            model=held.model.name,
            usage=answer.usage,
            response_id=answer.response_id,
            crowded=held.toolbox.crowded(answer.parts),
        )
    )


def _plan_results(results: Results, held: Held) -> None:
    held.plan(
        CommitResults(
            **held.signed(results.attempt_id, "results"),
            attempt_id=results.attempt_id,
            results=results.results,
            stop_after=results.stop_after,
        )
    )


async def _commit_end(step: StepDraft, held: Held) -> None:
    """Commit the end of the run, together with the step before it, if any."""
    await held.commit()
    step.close()


async def _fail(error: ChatError, held: Held) -> None:
    """End the turn with an error. Raises Stopped if the user interrupted it first."""
    await held.apply(Fail(**held.signed_once("fail"), error=error), reads_journal=True)


async def _end_stopped(cause: StopCause, step: StepDraft, held: Held) -> None:
    if cause.gives_back:
        try:
            # Keep a step that was complete when the stop arrived.
            closes_step = held.has_plans
            held.plan(Release(**held.signed_once("release")))
            await held.commit()
            if closes_step:
                step.close()
        except Stopped as found:
            let_go(found)
            # A draining worker that finds an interrupt saves the step like any other worker.
            cause = found.cause
    if cause.keeps_partial_step:
        await _save_partial(step, held)


async def _save_partial(step: StepDraft, held: Held) -> None:
    parts = step.seal_partial()
    await held.apply(
        FinishInterruption(
            **held.signed_once("interrupted"),
            attempt_id=step.attempt_id,
            parts=parts,
            results=tuple(step.unrecorded),
            model=held.model_name,
            usage=step.usage,
        ),
        reads_journal=True,
    )
    if parts or step.unrecorded:
        step.close()  # what was shown is in the history now
