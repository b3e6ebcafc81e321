"""One turn, from wherever the database says it stands. Control flow lives here and nowhere else.

Each wait (for the model, for tools) is begun by one commit: what the wait before it gave, and all
that follows from it. The last commit ends the run.
"""

from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.model.retry import ask_model
from chatd_server.agent.tools.batch import Results, run_tools
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
from chatd_server.agent.turn.next_action import (
    AskClient,
    CallModel,
    Finish,
    RunTools,
    next_action,
)
from chatd_server.agent.turn.stop import StopCause, Stopped
from chatd_server.collector import let_go
from chatd_server.domain.chat import Status
from chatd_server.domain.command import (
    CommitAnswer,
    CommitResults,
    Fail,
    FinishInterruption,
    FinishTurn,
    Release,
    RequireAction,
)
from chatd_server.domain.failure import ChatError, ErrorKind, ModelFailure
from chatd_server.domain.refusal import ModelNotFound


async def run_turn(held: Held, env: Env) -> None:
    """Do what is owed until the turn is over, the client must act, or someone says stop.

    Raises LeaseLost and DatabaseUnavailable; a failure of the model past retrying is written.
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
    """End the turn with an error of ours, unless the user's interrupt came first."""
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
        match next_action(held.history, held.turn, held.state.calls):
            case CallModel():
                await ask_model(step, held, env)
                _plan_answer(step, held)
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


def _plan_answer(step: StepDraft, held: Held) -> None:
    """Plan to commit the answer: with the start of its tools, and before any of them runs."""
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
    """Commit what ends the run, with the step before it, if there is one."""
    await held.commit()
    step.close()


async def _fail(error: ChatError, held: Held) -> None:
    """End the turn with an error. Raises Stopped when the user's interrupt came first."""
    await held.apply(Fail(**held.signed_once("fail"), error=error), reads_journal=True)


async def _end_stopped(cause: StopCause, step: StepDraft, held: Held) -> None:
    """Do what the cause asks for."""
    if cause.gives_back:
        try:
            # A step that was complete when the stop came is not lost.
            closes_step = held.has_plans
            held.plan(Release(**held.signed_once("release")))
            await held.commit()
            if closes_step:
                step.close()
        except Stopped as found:
            let_go(found)
            # A leaving worker that finds an interrupt saves the step like any other.
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
        step.close()  # what was shown stands in the history now
