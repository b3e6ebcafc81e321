"""The context of a call: a parameter that the model does not see."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from chatd.v1 import tool_pb2
from chatd_client import Client, ClientTool, ToolCallContext, tool
from tests.kit.server import serving


@tool
async def on_the_loop(amount: int, context: ToolCallContext) -> list[str]:
    """Charge a card."""
    return [context.tool_call_id, context.tool_name, context.chat_id, str(amount)]


@tool
def in_a_thread(context: ToolCallContext, amount: int = 1) -> list[str]:
    """Charge a card."""
    return [context.tool_call_id, context.tool_name, context.chat_id, str(amount)]


@pytest.mark.parametrize("known", [on_the_loop, in_a_thread], ids=["async", "plain"])
async def test_a_tool_is_told_which_call_it_runs_for(tmp_path: Path, known: ClientTool) -> None:
    """The id is that of the call in the history, so an effect can be remembered under it."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[known])
        async for _ in chat.run(f'!call {known.name} {{"amount": 5}}'):
            pass
        parts = [part for message in await chat.messages() for part in message.parts]
        (call,) = [part.tool_call for part in parts if part.HasField("tool_call")]
        (result,) = [part.tool_result for part in parts if part.HasField("tool_result")]
        told = msgspec.json.decode(result.output_json)
        assert told == [call.tool_call_id, known.name, chat.id, "5"]


@pytest.mark.parametrize("known", [on_the_loop, in_a_thread], ids=["async", "plain"])
def test_the_model_does_not_see_the_context(known: ClientTool) -> None:
    """The schema has the other parameters and nothing else."""
    schema = msgspec.json.decode(known.input_schema_json)
    assert list(schema["properties"]) == ["amount"]
    assert "ToolCallContext" not in known.input_schema_json


async def test_the_model_cannot_set_the_context() -> None:
    """An argument of that name is unknown."""
    call = tool_pb2.PendingToolCall(
        tool_call_id="1",
        tool_name="in_a_thread",
        arguments_json='{"context":{"tool_call_id":"x","tool_name":"x","chat_id":"x"}}',
    )
    result = await in_a_thread.result(call, "c")
    assert msgspec.json.decode(result.output_json) == ["1", "in_a_thread", "c", "1"]


def optional(context: ToolCallContext | None = None) -> None: ...
def annotated(context: Annotated[ToolCallContext, "mine"]) -> None: ...
def nested(contexts: list[ToolCallContext]) -> None: ...
def twice(one: ToolCallContext, two: ToolCallContext) -> None: ...


@pytest.mark.parametrize("function", [optional, annotated, nested, twice])
def test_a_context_in_any_other_form_is_refused(function: Callable[..., Any]) -> None:
    """It would be in the schema, and the model would invent it."""
    with pytest.raises(TypeError, match="ToolCallContext"):
        tool(function)
