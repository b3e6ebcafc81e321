"""A turn leaves no reference cycle that only the cyclic collector could free.

A turn holds its chat's whole history, and a server's collector rarely visits old objects
(`chatd_server.collector`). A cycle would keep every history until then.
"""

import gc
from collections.abc import Awaitable, Callable

import pytest

from chatd_server.agent.turn.held import Held
from chatd_server.domain.chat import Status
from chatd_server.domain.failure import ErrorKind
from chatd_server.domain.limits import ATTEMPTS_MAX
from tests.kit.script import Gate, calls, text
from tests.kit.world import World

Turn = Callable[[World], Awaitable[object]]


async def plain(world: World) -> None:
    """An answer."""
    world.model.says(text("done"))
    await (await world.chat("go")).ended()


async def with_a_tool(world: World) -> None:
    """Two steps."""
    world.tool("look").gives("seen")
    world.model.says(calls("look"))
    world.model.says(text("done"))
    await (await world.chat("go")).ended()


async def with_a_failing_tool(world: World) -> None:
    """A tool that raises."""
    world.tool("look").error = RuntimeError("broken")
    world.model.says(calls("look"))
    world.model.says(text("done"))
    await (await world.chat("go")).ended()


async def for_a_client(world: World) -> None:
    """A pause, and another run."""
    world.model.says(calls("ask"))
    chat = await world.chat("go", client_tools=["ask"])
    await chat.until(Status.REQUIRES_ACTION)
    world.model.says(text("done"))
    await chat.submit("answer")
    await chat.ended()


async def after_a_retry(world: World) -> None:
    """One failed attempt, and a good one."""
    world.model.fails(ErrorKind.OVERLOADED, text("half"))
    world.model.says(text("whole"))
    chat = await world.chat("go")
    await world.clock.advance_to("retry")
    await chat.ended()


async def failed_at_once(world: World) -> None:
    """A failure that is not retried."""
    world.model.fails(ErrorKind.AUTH)
    await (await world.chat("go")).until(Status.ERROR)


async def failed_after_all_attempts(world: World) -> None:
    """All attempts fail."""
    world.model.fails(ErrorKind.RATE_LIMIT, times=ATTEMPTS_MAX)
    chat = await world.chat("go")
    for _ in range(ATTEMPTS_MAX - 1):
        await world.clock.advance_to("retry")
    await chat.until(Status.ERROR)


async def interrupted_in_the_stream(world: World) -> None:
    """A stop during an answer."""
    gate = Gate()
    world.model.says(text("half", gate))
    chat = await world.chat("go")
    await gate.reached()
    await chat.interrupt()
    await chat.ended()


async def interrupted_in_a_tool(world: World) -> None:
    """A stop during a tool."""
    gate = world.tool("look").hangs()
    world.model.says(calls("look"))
    chat = await world.chat("go")
    await gate.reached()
    await chat.interrupt()
    await chat.ended()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    "turn",
    [
        plain,
        with_a_tool,
        with_a_failing_tool,
        for_a_client,
        after_a_retry,
        failed_at_once,
        failed_after_all_attempts,
        interrupted_in_the_stream,
        interrupted_in_a_tool,
    ],
)
async def test_a_turn_leaves_nothing_for_the_collector(world: World, turn: Turn) -> None:
    """Its history is freed with its last reference, however the turn ends."""
    await turn(world)
    await world.process.drain()
    assert [held.id for held in gc.get_objects() if isinstance(held, Held)] == []
