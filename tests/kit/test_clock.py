"""The clock that tests control, and the observer that they wait with."""

import asyncio
import threading

import pytest

from chatd_server.domain.ids import MICROSECONDS, ChatId
from chatd_server.observe import spans
from tests.kit.clock import ManualClock
from tests.kit.observer import RecordingObserver


async def test_advance_stops_at_each_timer_in_order() -> None:
    """A callback sees its own time, and a timer that it sets fires in the same advance."""
    clock = ManualClock()
    start = clock.now()
    seen: list[tuple[str, float]] = []

    async def tick(name: str, *spans: float) -> None:
        for span in spans:
            await clock.sleep(span, name)
            seen.append((name, (clock.now() - start) / MICROSECONDS))

    tasks = [asyncio.create_task(tick("a", 3, 3)), asyncio.create_task(tick("b", 2, 2, 9))]
    await clock.advance(7)

    assert seen == [("b", 2.0), ("a", 3.0), ("b", 4.0), ("a", 6.0)]
    assert clock.now() == start + 7 * MICROSECONDS
    assert await clock.sleeping("b") == 6.0
    await clock.advance(6)
    await asyncio.gather(*tasks)


async def test_time_stands_still_until_it_is_advanced() -> None:
    """A sleep does not end one microsecond early."""
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1, "nap"))
    await clock.advance(0.999_999)
    assert not task.done()
    await clock.advance(0.000_001)
    assert task.done()


async def test_a_timeout_cuts_only_what_is_inside() -> None:
    """The deadline raises TimeoutError inside, and a foreign cancellation passes through."""
    clock = ManualClock()

    async def wait() -> None:
        async with clock.timeout(5, "answer"):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    assert await clock.advance_to("answer") == 5.0
    with pytest.raises(TimeoutError):
        await task

    task = asyncio.create_task(wait())
    await clock.sleeping("answer")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.tags() == []


async def test_a_timeout_that_was_met_leaves_no_timer() -> None:
    """Leaving the context removes its deadline."""
    clock = ManualClock()
    async with clock.timeout(5, "answer"):
        assert clock.tags() == ["answer"]
    assert clock.tags() == []


async def test_advance_waits_for_a_job_in_a_thread() -> None:
    """A timer set after a job in a thread fires in the same advance."""
    clock = ManualClock()
    gate = threading.Event()

    async def work() -> None:
        await clock.sleep(1, "first")
        with clock.job():
            await asyncio.to_thread(gate.wait)
        await clock.sleep(1, "second")

    task = asyncio.create_task(work())
    asyncio.get_running_loop().call_later(0.01, gate.set)
    await clock.advance(2)
    assert task.done()
    await task


async def test_until_finds_facts_of_before_and_of_later() -> None:
    """A wait matches facts by equality and may start before or after them, in any thread."""
    observer = RecordingObserver()
    first, other, last = (
        spans.ToolHidden(chat=ChatId(chat), tool=tool)
        for chat, tool in (("a", "shell"), ("a", "other"), ("b", "shell"))
    )
    observer.note(first)
    assert await observer.until(spans.ToolHidden, tool="shell") is first

    second = asyncio.create_task(observer.until(spans.ToolHidden, times=2, tool="shell"))
    await asyncio.to_thread(observer.note, other)
    await asyncio.to_thread(observer.note, last)
    assert await second is last
    assert observer.noted(spans.ToolHidden) == [first, other, last]
