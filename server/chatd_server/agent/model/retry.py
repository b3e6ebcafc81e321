"""Retries of one model call, with exponential backoff.

The number of failures and the time of the next attempt are part of the turn in the database, so a
rescued turn waits out its delay and continues the count. `ChatError.retryable` decides what is
retried; no code reads error messages.

tenacity runs the retries. The first attempt is made without it: nearly every call succeeds at once,
and tenacity would take a thirtieth of a whole step with a tool.
"""

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from chatd_server.agent.model.attempt import stream_model
from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
from chatd_server.collector import let_go
from chatd_server.domain.command import ScheduleRetry
from chatd_server.domain.failure import ModelFailure
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.domain.limits import ATTEMPTS_MAX, RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS
from chatd_server.observe import spans


async def ask_model(step: StepDraft, held: Held, env: Env) -> None:
    """Fill the draft with a complete answer, in at most ATTEMPTS_MAX attempts.

    Raises the last ModelFailure when no attempt is left or the failure must not be retried;
    Stopped; LeaseLost.
    """
    at = held.turn.next_attempt_at
    if at is not None and at > env.clock.now():
        await _sleep((at - env.clock.now()) / MICROSECONDS, held, env)
    failed: list[ModelFailure] = []
    try:
        await _attempt(step, held, env)
    except ModelFailure as failure:
        let_go(failure)
        failed.append(failure)
    if failed:
        await _retry(failed, step, held, env)


async def _retry(failed: list[ModelFailure], step: StepDraft, held: Held, env: Env) -> None:
    """Retry until an attempt succeeds; `failed` is emptied, so that no frame keeps the failure."""

    async def attempt() -> None:
        if failed:
            raise failed.pop()
        await _attempt(step, held, env)

    async def sleep(seconds: float) -> None:
        await _sleep(seconds, held, env)

    async def schedule(tried: RetryCallState) -> None:
        await _schedule(tried.upcoming_sleep, _error_of(tried), step, held)

    ladder = AsyncRetrying(
        retry=retry_if_exception(is_retryable),
        stop=lambda _: held.turn.failed_attempts + 1 >= ATTEMPTS_MAX,
        wait=lambda tried: delay_seconds(
            held.turn.failed_attempts + 1, _error_of(tried).error.retry_after_seconds
        ),
        sleep=sleep,
        before_sleep=schedule,
        reraise=True,
    )
    try:
        await ladder(attempt)
    finally:
        # tenacity keeps the last call in a reference cycle, which would hold the chat's history
        # until the cyclic collector runs.
        ladder.iter_state.reset()


async def _sleep(seconds: float, held: Held, env: Env) -> None:
    async with held.stop.guard():
        await env.clock.sleep(seconds, "retry")


def is_retryable(error: BaseException) -> bool:
    """Return whether another attempt may help."""
    return isinstance(error, ModelFailure) and error.error.retryable


def delay_seconds(failures: int, retry_after_seconds: float | None) -> float:
    """Return the delay after this many consecutive failures: at least the vendor's retry-after."""
    # Above 2 ** 16 seconds the maximum applies anyway; this keeps the power small.
    rung = min(RETRY_FIRST_SECONDS * 2.0 ** min(failures - 1, 16), RETRY_LAST_SECONDS)
    return max(rung, retry_after_seconds or 0.0)


async def _attempt(step: StepDraft, held: Held, env: Env) -> None:
    try:
        await stream_model(step, held, env)
    except ModelFailure as failed:
        attempt = held.turn.attempt
        env.observer.note(
            spans.AttemptFailed(
                chat=held.id,
                attempt=step.attempt_id,
                number=attempt.number if attempt else 0,
                kind=failed.error.kind,
                http_status=failed.error.http_status,
            )
        )
        let_go(failed)
        raise


async def _schedule(seconds: float, failed: ModelFailure, step: StepDraft, held: Held) -> None:
    attempt_id = step.attempt_id
    step.abandon()
    await held.apply(
        ScheduleRetry(
            **held.signed(attempt_id, "retry"),
            attempt_id=attempt_id,
            delay_seconds=seconds,
            error=failed.error,
        )
    )


def _error_of(tried: RetryCallState) -> ModelFailure:
    assert tried.outcome is not None
    error = tried.outcome.exception()
    assert isinstance(error, ModelFailure)
    return error
