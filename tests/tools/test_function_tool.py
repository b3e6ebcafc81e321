"""A function as a tool."""

import json

import pytest

from chatd_server.domain.ids import ChatId, OwnerId, ToolCallId, TurnId
from chatd_server.ports.tools import ToolContext, ToolOutput
from chatd_server.tools.function_tool import FunctionTool

CONTEXT = ToolContext(
    chat_id=ChatId("chat"),
    owner_id=OwnerId("owner"),
    turn_id=TurnId("turn"),
    call_id=ToolCallId("call"),
    called_at=1,
)


async def greet(name: str, context: ToolContext, times: int = 1) -> str:
    """Greet somebody.

    In a friendly way.
    """
    return " ".join([f"Hello {name} in {context.chat_id}."] * times)


async def test_the_function_is_the_tool() -> None:
    """The model gets the name, docstring and signature."""
    tool = FunctionTool(greet)

    assert tool.spec.name == "greet"
    assert tool.spec.description == "Greet somebody.\n\nIn a friendly way."
    assert list(json.loads(tool.spec.input_schema)["properties"]) == ["name", "times"]
    assert await tool.run('{"name":"Ada","times":2}', CONTEXT) == ToolOutput(
        "Hello Ada in chat. Hello Ada in chat."
    )


async def test_arguments_that_do_not_fit_run_nothing() -> None:
    """The model gets all problems at once, as an error of an invalid call."""
    output = await FunctionTool(greet).run('{"times":"two"}', CONTEXT)

    assert output == ToolOutput(
        "greet was not run, because its arguments are not valid:\n"
        "- name: is missing\n"
        "- times: Expected `int`, got `str`",
        is_error=True,
        is_invalid_call=True,
    )


async def test_a_value_becomes_json_and_an_output_stays_itself() -> None:
    """A function may describe its result in as much detail as it wants."""

    async def value() -> list[int]:
        """Return a value."""
        return [1, 2]

    async def output() -> ToolOutput:
        """Return an output."""
        return ToolOutput("no", is_error=True)

    assert await FunctionTool(value).run("", CONTEXT) == ToolOutput("[1,2]", is_json=True)
    assert await FunctionTool(output).run("", CONTEXT) == ToolOutput("no", is_error=True)


async def test_an_exception_of_the_function_propagates() -> None:
    """The caller of the tool decides how to handle an exception."""

    async def broken() -> str:
        """Break."""
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        await FunctionTool(broken).run("", CONTEXT)


def test_properties_of_a_tool_are_declared() -> None:
    """A call runs at most once and the turn continues, unless the author says otherwise."""
    plain = FunctionTool(greet)
    marked = FunctionTool(greet, idempotent=True, ends_turn=True, exclusive=True)

    assert (plain.idempotent, plain.ends_turn, plain.exclusive) == (False, False, False)
    assert (marked.idempotent, marked.ends_turn, marked.exclusive) == (True, True, True)


def test_a_function_that_cannot_be_a_tool_is_refused() -> None:
    """A tool must be cancellable and must have a description."""

    def blocking() -> str:
        """Block the loop."""
        return ""

    async def silent() -> str:
        return ""

    with pytest.raises(TypeError, match="blocking must be async"):
        FunctionTool(blocking)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="silent needs a docstring"):
        FunctionTool(silent)
