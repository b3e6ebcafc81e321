"""One turn, from wherever the database says it stands. Control flow lives here and nowhere else."""

from chatd_server.agent.draft import StepDraft
from chatd_server.agent.env import Env
from chatd_server.agent.held import Held
from chatd_server.agent.next_action import (
    AskClient,
    CallModel,
    Finish,
    RunTools,
    next_action,
)
from chatd_server.agent.retry import ask_model
from chatd_server.agent.stop import StopCause, Stopped
from chatd_server.agent.toolrun import Results, run_tools
from chatd_server.domain.chat import Status, StopReason
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
from chatd_server.observe import Span


async def run_turn(held: Held, env: Env) -> None:
    """Do what is owed until the turn is over, the client must act, or someone says stop.

    Raises LeaseLost and DatabaseUnavailable; a failure of the model past retrying is written.
    """
    step = StepDraft(env.clock)
    try:
        try:
            await _take_steps(step, held, env)
        except ModelFailure as failed:
            await _fail(failed.error, held, env)
        except ModelNotFound as missing:
            await _fail(ChatError(kind=ErrorKind.CONFIG, message=str(missing)), held, env)
    except Stopped as stopped:
        await _end_stopped(stopped.cause, step, held, env)
    finally:
        step.abandon()


async def write_failure(error: ChatError, held: Held, env: Env) -> None:
    """End the turn with an error of ours, unless the user's interrupt came first."""
    try:
        await _fail(error, held, env)
    except Stopped as stopped:
        await _end_stopped(stopped.cause, StepDraft(env.clock), held, env)


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
                await _commit_answer(step, held, env)
            case RunTools(calls):
                results = await run_tools(step, calls, held, env)
                await _commit_results(results, step, held, env)
            case AskClient():
                return await _ask_client(held, env)
            case Finish(reason):
                return await _finish(reason, held, env)


async def _commit_answer(step: StepDraft, held: Held, env: Env) -> None:
    """Commit the answer, before any of its tools runs."""
    answer = step.seal()
    await held.apply(
        CommitAnswer(
            **held.signed(step.attempt_id, "answer"),
            attempt_id=step.attempt_id,
            parts=answer.parts,
            finish_reason=answer.finish_reason,
            model=held.model.name,
            usage=answer.usage,
        )
    )
    env.observer.note(
        Span.ANSWER_COMMITTED,
        chat=held.id,
        attempt=step.attempt_id,
        finish_reason=answer.finish_reason,
        parts=len(answer.parts),
    )
    step.close()


async def _commit_results(results: Results, step: StepDraft, held: Held, env: Env) -> None:
    await held.apply(
        CommitResults(
            **held.signed(step.attempt_id, "results"),
            attempt_id=step.attempt_id,
            results=results.results,
            stop_after=results.stop_after,
        )
    )
    env.observer.note(
        Span.RESULTS_COMMITTED,
        chat=held.id,
        attempt=step.attempt_id,
        results=len(results.results),
    )
    step.close()


async def _ask_client(held: Held, env: Env) -> None:
    calls = len(held.state.calls)
    await held.apply(RequireAction(**held.signed_once("action")))
    env.observer.note(Span.ACTION_REQUIRED, chat=held.id, calls=calls)


async def _finish(reason: StopReason, held: Held, env: Env) -> None:
    turn_id = held.turn.id
    await held.apply(FinishTurn(**held.signed_once("finish"), turn_id=turn_id, stop_reason=reason))
    env.observer.note(Span.TURN_FINISHED, chat=held.id, turn=turn_id, stop_reason=reason)


async def _fail(error: ChatError, held: Held, env: Env) -> None:
    """End the turn with an error. Raises Stopped when the user's interrupt came first."""
    turn_id = held.turn.id
    await held.apply(Fail(**held.signed_once("fail"), error=error), reads_journal=True)
    env.observer.note(
        Span.TURN_FINISHED,
        chat=held.id,
        turn=turn_id,
        stop_reason=StopReason.ERROR,
        kind=error.kind,
    )


async def _end_stopped(cause: StopCause, step: StepDraft, held: Held, env: Env) -> None:
    """Do what the cause asks for."""
    if cause.gives_back:
        try:
            await held.apply(Release(**held.signed_once("release")))
        except Stopped as found:
            # A leaving worker that finds an interrupt saves the step like any other.
            cause = found.cause
    if cause.keeps_partial_step:
        await _save_partial(step, held, env)


async def _save_partial(step: StepDraft, held: Held, env: Env) -> None:
    turn_id = held.turn.id
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
    env.observer.note(
        Span.TURN_FINISHED, chat=held.id, turn=turn_id, stop_reason=StopReason.INTERRUPTED
    )
    if parts or step.unrecorded:
        step.close()  # what was shown stands in the history now
