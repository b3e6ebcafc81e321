"""The cost of a turn: one commit per wait, on each store."""

import pytest

from chatd_server.domain.chat import Status
from chatd_server.domain.failure import ErrorKind
from tests.kit.script import Gate, calls, text
from tests.kit.world import Chat, World


def writes(world: World) -> int:
    """Return the number of durable writes: commits, and outcomes in the journal."""
    return world.commits + world.process.cable.calls.count("finish_call")


async def test_a_plain_turn_is_three_commits_and_its_first_token_comes_after_two(
    either: World,
) -> None:
    """The message; the lease with its attempt; the answer with the end of the turn."""
    either.start()
    gate = Gate()
    either.model.says(text("Hel", gate, "lo"))
    chat = await either.chat("hi")
    await gate.reached()
    assert writes(either) == 2
    gate.open()
    await chat.ended()
    assert writes(either) == 3
    assert either.process.cable.calls == ["CommitAnswer + FinishTurn"]


@pytest.mark.parametrize("tools", [1, 2, 5])
async def test_a_step_with_n_tools_is_one_commit_more(either: World, tools: int) -> None:
    """The answer with the start of its tools, each outcome but the last, and the results with the
    next attempt.
    """
    either.start()
    first, second = Gate(), Gate()
    either.tool("shell")
    either.model.says(first, *[calls("shell") for _ in range(tools)])
    either.model.says(second, text("Done."))
    chat = await either.chat("go")
    await first.reached()
    before = writes(either)
    first.open()
    await second.reached()
    assert writes(either) == before + tools + 1
    assert either.process.cable.calls == [
        "CommitAnswer + StartAttempt + start_calls",
        *["finish_call"] * (tools - 1),
        "CommitResults + StartAttempt",
    ]
    second.open()
    await chat.ended()


async def asks(world: World, *names: str) -> Chat:
    """Bring a chat to the point where it waits for its client."""
    world.start()
    world.tool("shell")
    world.model.says(*(calls(name) for name in names))
    chat = await world.chat("go", client_tools=["open"])
    await chat.until(Status.REQUIRES_ACTION)
    return chat


async def test_an_answer_with_client_tools_ends_in_one_commit(either: World) -> None:
    """One commit for the answer with the question; one for the results, then the turn goes on."""
    chat = await asks(either, "open")
    assert writes(either) == 3
    assert either.process.cable.calls == ["CommitAnswer + RequireAction"]
    gate = Gate()
    either.model.says(gate, text("Done."))
    await chat.submit("opened")
    await gate.reached()
    assert writes(either) == 5
    gate.open()
    await chat.ended()
    assert writes(either) == 6


async def test_the_client_is_asked_with_the_results_of_our_tools(either: World) -> None:
    """They wait for each other only if one needs the other."""
    await asks(either, "shell", "open")
    assert either.process.cable.calls == [
        "CommitAnswer + StartAttempt + start_calls",
        "CommitResults + RequireAction",
    ]
    assert writes(either) == 4


async def test_a_tool_that_ends_the_turn_ends_it_with_its_result(either: World) -> None:
    """Nothing waits after it."""
    either.start()
    either.tool("done", ends_turn=True)
    either.model.says(calls("done"))
    chat = await either.chat("go")
    await chat.ended()
    assert writes(either) == 4
    assert either.process.cable.calls[-1] == "CommitResults + FinishTurn"


async def test_a_retry_is_one_commit_before_its_delay_and_one_after(either: World) -> None:
    """The delay is a wait like any other."""
    either.start()
    either.model.fails(ErrorKind.OVERLOADED)
    either.model.says(text("whole"))
    chat = await either.chat("go")
    await either.clock.advance_to("retry")
    await chat.ended()
    assert either.process.cable.calls == [
        "ScheduleRetry",
        "StartAttempt",
        "CommitAnswer + FinishTurn",
    ]
