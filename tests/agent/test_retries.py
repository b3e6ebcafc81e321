"""Retries of a model call, on a held clock."""

from pathlib import Path

import pytest

from chatd_server.domain.answer_parts import Delta, Finished
from chatd_server.domain.chat import Status
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.limits import ATTEMPTS_MAX
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import FinishReason, Usage
from chatd_server.observe import spans
from tests.kit.golden import assert_golden
from tests.kit.script import calls, text
from tests.kit.world import World

GOLDEN = Path(__file__).parent / "golden"


async def test_a_failed_attempt_is_tried_again_from_the_beginning(world: World) -> None:
    """Its parts are void, the retry is announced, and only the second answer counts."""
    world.model.fails(ErrorKind.OVERLOADED, text("half"))
    world.model.says(text("whole"))
    chat = await world.chat("go")
    await world.clock.advance_to("retry")
    await chat.ended()
    assert_golden(await chat.transcript(), GOLDEN / "retry.txt")
    assert world.process.live.lines == [
        "attempt after 4",
        "0: text 'half'",
        "abandoned",
        "attempt after 5",
        "0: text 'whole'",
    ]
    assert [request.attempt_number for request in world.model.requests] == [1, 2]


async def test_the_delay_doubles_and_retries_end(world: World) -> None:
    """After twenty-five calls the turn fails with the last error."""
    world.model.fails(ErrorKind.RATE_LIMIT, times=ATTEMPTS_MAX)
    chat = await world.chat("go")
    waits = [await world.clock.advance_to("retry") for _ in range(ATTEMPTS_MAX - 1)]
    state = await chat.until(Status.ERROR)
    assert waits == [1, 2, 4, 8, 16, 32, *[60] * 18]
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.RATE_LIMIT
    assert len(world.model.requests) == ATTEMPTS_MAX


async def test_retry_after_is_a_floor(world: World) -> None:
    """The vendor's retry-after counts if it is longer than the delay, even above a minute."""
    world.model.fails(ErrorKind.RATE_LIMIT, retry_after_seconds=90)
    world.model.fails(ErrorKind.RATE_LIMIT, retry_after_seconds=0.5)
    world.model.says(text("whole"))
    chat = await world.chat("go")
    assert await world.clock.advance_to("retry") == 90
    assert await world.clock.advance_to("retry") == 2
    await chat.ended()


@pytest.mark.parametrize("kind", [ErrorKind.AUTH, ErrorKind.CONFIG, ErrorKind.USAGE_LIMIT])
async def test_a_permanent_failure_is_not_retried(world: World, kind: ErrorKind) -> None:
    """The turn fails at once; the user may retry it without a new message."""
    world.model.fails(kind)
    chat = await world.chat("go")
    state = await chat.until(Status.ERROR)
    assert state.last_error is not None
    assert state.last_error.kind is kind
    world.model.says(text("now"))
    await chat.retry()
    await chat.until(Status.WAITING)
    assert await chat.history_texts() == ["go", "now"]


async def test_each_step_has_its_own_retries(world: World) -> None:
    """A commit in between resets the count of failures."""
    world.tool("shell")
    world.model.fails(ErrorKind.OVERLOADED, times=2)
    world.model.says(calls("shell"))
    world.model.fails(ErrorKind.OVERLOADED)
    world.model.says(text("done"))
    chat = await world.chat("go")
    waits = [await world.clock.advance_to("retry") for _ in range(3)]
    await chat.ended()
    assert waits == [1, 2, 1]


async def test_the_retries_survive_a_crash(world: World) -> None:
    """The next worker waits out the delay and continues the count."""
    world.model.fails(ErrorKind.RATE_LIMIT, times=2)
    world.model.fails(ErrorKind.RATE_LIMIT, retry_after_seconds=100)
    chat = await world.chat("go")
    await world.clock.advance_to("retry")
    await world.clock.advance_to("retry")
    assert await world.clock.sleeping("retry") == 100
    failed_at = world.clock.now()
    await world.process.crash()
    world.model.fails(ErrorKind.RATE_LIMIT)
    world.model.says(text("whole"))
    world.start("two")
    await world.clock.advance(99)
    assert len(world.model.requests) == 3
    await world.until(spans.ChatsRescued)
    await world.clock.advance(1)
    await world.until(spans.AttemptFailed, number=4)
    assert world.clock.now() == failed_at + 100_000_000
    assert await world.clock.advance_to("retry") == 8
    await chat.ended()
    assert [request.attempt_number for request in world.model.requests] == [1, 2, 3, 4, 5]


async def test_a_stream_that_just_stops_is_a_failure_that_is_tried_again(world: World) -> None:
    """An adapter must not end like this; if one does, nothing is committed."""
    world.model.plays(Delta(0, PieceKind.TEXT, "half"))
    world.model.plays(Delta(0, PieceKind.TEXT, "whole"), Finished(FinishReason.END_TURN, Usage()))
    chat = await world.chat("go")
    await world.clock.advance_to("retry")
    await chat.ended()
    assert await chat.history_texts() == ["go", "whole"]
