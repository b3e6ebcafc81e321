"""A stop has a cause, and swallows only its own cancellation."""

import asyncio
from collections.abc import Coroutine

import pytest

from chatd_server.agent.turn.stop import Stop, StopCause, Stopped


async def _forever() -> None:
    await asyncio.Event().wait()


async def _guarded(stop: Stop, body: Coroutine[None, None, None], entered: asyncio.Event) -> str:
    try:
        async with stop.guard():
            entered.set()
            await body
    except Stopped as stopped:
        await asyncio.sleep(0)  # noqa: TID251  proves that the task can still await
        return stopped.cause
    return "done"


async def _start(stop: Stop, body: Coroutine[None, None, None]) -> asyncio.Task[str]:
    entered = asyncio.Event()
    task = asyncio.create_task(_guarded(stop, body, entered))
    await entered.wait()
    return task


async def test_a_stop_becomes_stopped_with_its_cause() -> None:
    """The guarded body is cancelled at its await, and the task can write afterwards."""
    stop = Stop()
    task = await _start(stop, _forever())
    stop.request(StopCause.SHUTDOWN)
    assert await task == "shutdown"
    assert task.cancelling() == 0


async def test_the_first_cause_wins() -> None:
    """A second request changes nothing."""
    stop = Stop()
    task = await _start(stop, _forever())
    stop.request(StopCause.INTERRUPTED)
    stop.request(StopCause.LEASE_LOST)
    assert await task == "interrupted"


async def test_a_foreign_cancel_passes_through() -> None:
    """A cancellation without a cause is not taken for a stop."""
    task = await _start(Stop(), _forever())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("order", ["stop first", "cancel first"])
async def test_a_foreign_cancel_passes_through_together_with_a_stop(order: str) -> None:
    """If both arrive, the foreign one is not swallowed."""
    stop = Stop()
    task = await _start(stop, _forever())
    if order == "stop first":
        stop.request(StopCause.INTERRUPTED)
        task.cancel()
    else:
        task.cancel()
        stop.request(StopCause.INTERRUPTED)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stop_between_two_guards_is_raised_by_the_next() -> None:
    """A stop that arrives outside a guard is not lost."""
    stop = Stop()
    stop.request(StopCause.LEASE_LOST)
    with pytest.raises(Stopped) as stopped:
        async with stop.guard():
            pytest.fail("the body must not begin")
    assert stopped.value.cause is StopCause.LEASE_LOST


async def test_a_stop_reaches_through_a_task_group() -> None:
    """The group cancels its children, and the guard still knows the cause."""
    stop = Stop()

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_forever())
            tasks.create_task(_forever())

    task = await _start(stop, group())
    stop.request(StopCause.INTERRUPTED)
    assert await task == "interrupted"


async def test_a_body_that_swallows_the_cancel_is_found_by_the_next_look() -> None:
    """A guard that ends normally leaves the task uncancelled and the stop pending."""
    stop = Stop()

    async def stubborn() -> None:
        try:
            await _forever()
        except asyncio.CancelledError:
            return

    task = await _start(stop, stubborn())
    stop.request(StopCause.INTERRUPTED)
    assert await task == "done"
    assert task.cancelling() == 0
    with pytest.raises(Stopped):
        stop.check()


async def test_a_request_from_inside_the_body_cuts_at_the_next_look() -> None:
    """A commit listener may run in the run's own task: it must not cancel itself."""
    stop = Stop()
    async with stop.guard():
        stop.request(StopCause.REPLACED)
        await asyncio.sleep(0)  # noqa: TID251  a turn of the loop: no cancel may be waiting
    with pytest.raises(Stopped):
        stop.check()


@pytest.mark.parametrize(
    ("cause", "keeps", "gives_back", "writes"),
    [
        (StopCause.INTERRUPTED, True, False, True),
        (StopCause.REPLACED, False, False, False),
        (StopCause.SHUTDOWN, False, True, True),
        (StopCause.LEASE_LOST, False, False, False),
    ],
)
def test_a_cause_owns_its_consequences(
    cause: StopCause, keeps: bool, gives_back: bool, writes: bool
) -> None:
    """The table of the consequences of each cause."""
    assert (cause.keeps_partial_step, cause.gives_back, cause.may_write) == (
        keeps,
        gives_back,
        writes,
    )
