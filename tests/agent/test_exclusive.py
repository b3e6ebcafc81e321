"""Tools that want to be alone in their answer, and tools that end the turn, beside others."""

import pytest

from chatd_server.domain.chat import Status, StopReason
from chatd_server.domain.message import Executor, ToolErrorKind
from tests.kit.script import Spoken, calls, searches, text
from tests.kit.world import Chat, World


async def answers(chat: Chat) -> dict[str, list[str]]:
    """Return what each tool was answered, with the kind of error before it."""
    found: dict[str, list[str]] = {}
    for message in await chat.messages():
        for result in message.results:
            if result.executor is not Executor.PROVIDER:
                error = "" if result.error is None else f"{result.error}: "
                found.setdefault(result.name, []).append(f"{error}{result.output}")
    return found


@pytest.mark.parametrize(
    "others",
    [("shell",), ("look",), ("shell", "look"), ("ask",), ("nobody",)],
    ids=["one of ours", "the client's", "both", "another exclusive one", "an unknown one"],
)
async def test_an_exclusive_tool_beside_another_call_runs_nothing(
    world: World, others: tuple[str, ...]
) -> None:
    """Each call is told why, nobody is asked for anything, and the model may try again."""
    alone, shell = world.tool("alone", exclusive=True), world.tool("shell")
    ask = world.tool("ask", exclusive=True)
    world.model.says(calls("alone"), *(calls(it) for it in others))
    world.model.says(text("One by one, then."))
    chat = await world.chat("go", client_tools=["look"])
    state = await chat.ended()
    assert state.status is Status.WAITING
    assert [*alone.runs, *shell.runs, *ask.runs] == []
    assert len(world.model.requests) == 2
    told = await answers(chat)
    assert set(told) == {"alone", *others}
    assert told["alone"] == [
        "invalid_call: Not run: alone must be the only call of its answer. Ask for it again, alone."
    ]
    for name in set(others) - {"ask"}:
        (words,) = told[name]
        assert words.startswith("invalid_call: Not run: alone must be the only call of its answer.")
        assert words.endswith("Ask again without alone, or for alone first.")
    history = [it.role for it in await chat.messages()]
    assert len(history) == 4


async def test_an_exclusive_tool_runs_alone(world: World) -> None:
    """As any other tool does."""
    alone = world.tool("alone", exclusive=True)
    world.model.says(text("Alone."), calls("alone"))
    world.model.says(text("Done."))
    chat = await world.chat("go")
    await chat.ended()
    assert len(alone.runs) == 1
    assert await answers(chat) == {"alone": ["done"]}


async def test_calls_of_the_vendor_do_not_count(world: World) -> None:
    """They were carried out with the answer already."""
    alone = world.tool("alone", exclusive=True)
    world.model.says(searches("words"), calls("alone"))
    world.model.says(text("Done."))
    chat = await world.chat("go")
    await chat.ended()
    assert len(alone.runs) == 1


@pytest.mark.parametrize("spoken", [(calls("alone"), calls("shell"))])
async def test_a_refused_answer_is_one_commit_and_needs_no_batch(
    world: World, spoken: tuple[Spoken, ...]
) -> None:
    """Answer, results and the next attempt stand together: no crash comes between."""
    world.tool("alone", exclusive=True)
    world.tool("shell")
    world.model.says(*spoken)
    world.model.says(text("Then not."))
    chat = await world.chat("go")
    await chat.ended()
    assert world.commits == 4  # the message; the first attempt; the refused answer; the end
    errors = [it.error for message in await chat.messages() for it in message.results]
    assert errors == [ToolErrorKind.INVALID_CALL] * 2


async def test_a_tool_that_ends_the_turn_beside_a_clients_waits_for_the_client(
    world: World,
) -> None:
    """The results come first; then the turn is over, and the model is not asked again."""
    world.tool("done", ends_turn=True)
    world.model.says(calls("done"), calls("look"))
    chat = await world.chat("go", client_tools=["look"])
    await chat.until(Status.REQUIRES_ACTION)
    await chat.submit("seen")
    state = await chat.ended()
    assert state.stop_reason is StopReason.END_TURN
    assert len(world.model.requests) == 1
    assert await answers(chat) == {"done": ["done"], "look": ["seen"]}


async def test_a_tool_that_ends_the_turn_lets_the_queue_go_on(world: World) -> None:
    """The next message begins its own turn, in which the model is asked."""
    gate = world.tool("done", ends_turn=True).hangs()
    world.model.says(calls("done"))
    world.model.says(text("Next."))
    chat = await world.chat("go")
    await gate.reached()
    await chat.send("and then")
    gate.open()
    await chat.ended()
    assert (await chat.history_texts())[-2:] == ["and then", "Next."]
    assert len(world.model.requests) == 2
