"""UpdateChat while a turn runs: what the open turn takes up."""

from chatd_server.domain.chat import ClientTool
from chatd_server.domain.command import UpdateChat
from tests.kit.script import calls, text
from tests.kit.world import World


async def test_an_open_turn_takes_up_instructions_and_tools(world: World) -> None:
    """With the next model call, and the tools with the one after: which tools there are is asked
    before a call, and the commit that begins it brings the change.
    """
    gate = world.tool("shell").hangs()
    world.model.says(calls("shell"))
    world.model.says(calls("shell"))
    world.model.says(text("Done."))
    chat = await world.chat("go", system_prompt="old")
    await gate.reached()
    await chat.apply(
        UpdateChat(command_id=chat.command(), system_prompt="new", tools=(ClientTool("look"),))
    )
    gate.open()
    await chat.ended()
    requests = world.model.requests
    assert [it.system for it in requests] == ["old", "new", "new"]
    assert [[tool.name for tool in it.tools] for it in requests] == [
        ["shell"],
        ["shell"],
        ["shell", "look"],
    ]
    assert len(await chat.messages()) == 6


async def test_an_update_in_the_middle_of_an_answer_costs_nothing_of_it(world: World) -> None:
    """The revision that the worker knows is an old one: the commit is decided again, and stands."""
    gate = world.tool("shell").hangs()
    world.model.says(text("On it."), calls("shell"))
    world.model.says(text("Done."))
    chat = await world.chat("go")
    await gate.reached()
    for title in ("one", "two"):
        await chat.apply(UpdateChat(command_id=chat.command(), title=title))
    gate.open()
    state = await chat.ended()
    assert state.config.title == "two"
    assert await chat.history_texts() == ["go", "On it.", "", "Done."]
