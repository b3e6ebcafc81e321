"""Rules beyond the contract's annotations: each with what is wrong and where."""

import asyncio
from collections.abc import Sequence

import pytest

from chatd_server.domain.chat import ChatConfig, ClientTool, TurnOptions
from chatd_server.domain.message import FileReference, Part, Text
from chatd_server.domain.refusal import ModelNotFound, Violation
from chatd_server.ports.models import Model
from chatd_server.service.checks import SCHEMAS_KNOWN_MAX, Checks, UnknownModel
from tests.kit.turns import counting_turns


class OneModel:
    """Knows one model."""

    def get(self, name: str) -> Model:
        """Refuse all names but one."""
        if name != "a/b":
            raise ModelNotFound(Violation("model", f"no model {name}"))
        return None  # type: ignore[return-value]  # never used

    def names(self) -> Sequence[str]:
        """Return the one."""
        return ("a/b",)


def built_in(model: str) -> Sequence[str]:
    """Return the one built-in tool of the one model."""
    return ("current_time",) if model == "a/b" else ()


@pytest.fixture
def checks() -> Checks:
    """Checks with one model, which is the default, and one tool."""
    return Checks(OneModel(), built_in, "a/b")


def tool(schema: str) -> ChatConfig:
    """Return a chat with one client tool."""
    return ChatConfig(tools=(ClientTool("mine", "", schema),))


@pytest.mark.parametrize(
    "schema",
    [
        "",
        '{"type": "object"}',
        '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}',
        '{"type":"object","minimum":-' + "9" * 4301 + ',"maxProperties":' + "9" * 4301 + "}",
    ],
)
def test_object_schemas_are_taken(checks: Checks, schema: str) -> None:
    """No schema means no arguments."""
    assert not list(checks.new_chat(tool(schema)))


@pytest.mark.parametrize(
    "schema, word",
    [
        ("{", "not valid JSON"),
        ("[1]", "object"),
        ('"x"', "object"),
        ("{}", "object"),
        ('{"type":"array"}', "object"),
        ('{"type":"object","properties":{"a":{"type":"strin"}}}', "properties/a"),
        ('{"type":"object","required":"a"}', "required"),
        ('{"type":"object","x":NaN}', "NaN"),
        ('{"type":"object","a":' + "[" * 20_000 + "]" * 20_000 + "}", "nested too deeply"),
        ('{"type":"object","not":' * 200 + "{}" + "}" * 200, "nested too deeply"),
        ('{"type":"object","maxProperties":-' + "9" * 4301 + "}", "maxProperties"),
    ],
    ids=range(11),
)
def test_schemas_that_no_model_would_take_are_refused(
    checks: Checks, schema: str, word: str
) -> None:
    """The violation names the tool's field and what is wrong with it."""
    (violation,) = checks.new_chat(tool(schema))
    assert violation.field == "tools[0].input_schema_json"
    assert word in violation.description


async def test_a_schema_is_looked_at_once(checks: Checks) -> None:
    """Large ones in a thread; the result, good or bad, is kept."""
    fine = '{"type":"object","description":"' + "x" * 5000 + '"}'
    await checks.learn([fine, "{", "", fine])
    assert "" in checks._faults.values()
    assert len(checks._faults) == 2
    assert not list(checks.new_chat(tool(fine)))
    (violation,) = checks.new_chat(tool("{"))
    assert "not valid JSON" in violation.description


async def test_a_new_schema_is_looked_at_beside_the_loop(checks: Checks) -> None:
    """Two kilobytes of empty schemas take a fifth of a second."""
    odd = '{"type":"object","allOf":[' + ",".join(["{}"] * 100) + "]}"
    async with counting_turns() as turns:
        await checks.learn([odd])
        assert turns.count > 0
        turns.begin()
        await checks.learn([odd, '{"type":"object"}'])
        assert turns.count == 0


async def test_a_schema_that_others_make_us_forget_is_looked_at_again(checks: Checks) -> None:
    """When `learn` has returned, no schema is left to be checked on the event loop."""
    mine = [f'{{"type":"object","title":"{number:0200d}"}}' for number in range(2)]
    others = [f'{{"title":{number}}}' for number in range(SCHEMAS_KNOWN_MAX)]
    await checks.learn(mine[:1])
    # There is no room for all of them, so the second one begins by clearing the first.
    learning = asyncio.create_task(checks.learn(mine))
    forgetting = asyncio.create_task(checks.learn(others))
    await learning
    async with counting_turns() as turns:
        await checks.learn(mine)
        assert turns.count == 0
    await forgetting


def test_a_schema_may_not_send_us_to_fetch_another(checks: Checks) -> None:
    """A reference to a URL is text: nothing is opened."""
    remote = '{"type":"object","$ref":"http://127.0.0.1:9/schema"}'
    assert not list(checks.new_chat(tool(remote)))


def test_the_name_of_a_built_in_tool_is_taken(checks: Checks) -> None:
    """With two tools of one name it would be open which one the model means."""
    config = ChatConfig(tools=(ClientTool("current_time"),))
    (violation,) = checks.new_chat(config)
    assert violation.field == "tools[0].name"


def test_schemas_are_bounded_together(checks: Checks) -> None:
    """512 KiB together, though each is below its own limit."""
    big = ClientTool("mine", "", '{"type":"object","description":"' + "x" * 60_000 + '"}')
    (violation,) = checks.new_chat(ChatConfig(tools=(big,) * 9))
    assert violation.field == "tools"


def test_an_unknown_model_has_a_violation_of_its_own(checks: Checks) -> None:
    """It has a reason of its own too."""
    (violation,) = checks.new_chat(ChatConfig(model="x/y"))
    assert isinstance(violation, UnknownModel)
    (violation,) = checks.options("options", TurnOptions(model="x/y"))
    assert violation.field == "options.model"


@pytest.mark.parametrize(
    "parts, word",
    [
        ([Text("  \n\t ")], "white space"),
        ([Text(" "), Text("\u2003")], "white space"),
        ([Text("x" * 200_000), Text("ä" * 200_000)], "at most 524288"),
        ([FileReference("", 0, 0, "x")], "empty"),
        ([FileReference("a", -1, 0)], "count from 1"),
        ([FileReference("a", 5, 4)], "before start_line"),
    ],
    ids=range(6),
)
def test_messages_that_say_nothing_or_too_much_are_refused(
    checks: Checks, parts: list[Part], word: str
) -> None:
    """The message says what to change."""
    (violation,) = checks.message("message", parts)
    assert word in violation.description
    assert violation.field.startswith("message.parts")


def test_white_space_beside_something_is_fine(checks: Checks) -> None:
    """An empty line before a file is how people write."""
    parts: list[Part] = [Text(" "), FileReference("a.py", 1, 3, "x")]
    assert not list(checks.message("message", parts))
