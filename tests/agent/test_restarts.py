"""A vendor that restarts its answer within a stream."""

from chatd_server.domain.answer_parts import Delta, Finished, Restarted
from chatd_server.domain.chat import Status
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.limits import ATTEMPTS_MAX, RESTARTS_MAX
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import FinishReason, Usage
from tests.kit.world import World


async def test_an_answer_that_restarts_is_only_the_second_one(world: World) -> None:
    """The text so far is void, and the answer continues as another attempt of the same call."""
    world.model.plays(
        Delta(0, PieceKind.TEXT, "half"),
        Restarted(),
        Delta(0, PieceKind.TEXT, "whole"),
        Finished(FinishReason.END_TURN, Usage()),
    )
    chat = await world.chat("go")
    await chat.ended()
    assert await chat.history_texts() == ["go", "whole"]
    assert world.process.live.lines == [
        "attempt after 4",
        "0: text 'half'",
        "abandoned",
        "attempt after 4",
        "0: text 'whole'",
    ]
    assert len(world.model.requests) == 1


async def test_an_answer_that_restarts_for_ever_is_a_failure(world: World) -> None:
    """The number of restarts per call is limited; then the retries apply."""
    for _ in range(ATTEMPTS_MAX):
        world.model.plays(*(Restarted() for _ in range(RESTARTS_MAX + 1)))
    chat = await world.chat("go")
    for _ in range(ATTEMPTS_MAX - 1):
        await world.clock.advance_to("retry")
    state = await chat.until(Status.ERROR)
    assert state.last_error is not None
    assert state.last_error.kind is ErrorKind.TIMEOUT
