"""Defects of tools: the program gets the traceback, the model only the type."""

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chatd.v1 import tool_pb2
from chatd_client import ToolCallContext, ToolFailed, tool


async def run(function: Callable[..., Any]) -> tool_pb2.ToolResultInput:
    """Run one call of a function."""
    known = tool(function)
    call = tool_pb2.PendingToolCall(tool_call_id="call 7", tool_name=known.name)
    return await known.result(call, "chat 9")


def plain() -> str:
    """Fail in a thread."""
    raise ValueError("a secret")


async def on_the_loop() -> str:
    """Fail on the loop."""
    raise ValueError("a secret")


def no_iterator() -> str:
    """Raise what a future cannot carry."""
    raise StopIteration("a secret")


async def cancels_itself() -> str:
    """Fail in an odd way."""
    raise asyncio.CancelledError("a secret")


def exits() -> str:
    """Call what a script ends with, in a thread."""
    sys.exit("a secret")


async def exits_on_the_loop() -> str:
    """Call what a script ends with."""
    sys.exit("a secret")


def gives_an_object() -> object:
    """Return a value without JSON."""
    return object()


DEFECTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "plain": (plain, "ValueError", "a secret"),
    "async": (on_the_loop, "ValueError", "a secret"),
    "StopIteration": (no_iterator, "StopIteration", "a secret"),
    "cancels itself": (cancels_itself, "CancelledError", "a secret"),
    "exits": (exits, "SystemExit", "a secret"),
    "exits on the loop": (exits_on_the_loop, "SystemExit", "a secret"),
    "no JSON": (gives_an_object, "TypeError", "objects of type object"),
}


@pytest.mark.parametrize(("function", "kind", "words"), DEFECTS.values(), ids=DEFECTS.keys())
async def test_a_defect_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, function: Callable[..., Any], kind: str, words: str
) -> None:
    """The model gets the type; the log has the traceback and the call."""
    result = await run(function)
    name = function.__name__
    assert (result.output_text, result.is_error) == (f"{name} failed: {kind}", True)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("chatd_client", logging.ERROR)
    for word in (name, "call 7", "chat 9"):
        assert word in record.getMessage()
    assert "Traceback" in caplog.text
    assert f"{kind}: " in caplog.text
    assert words in caplog.text


async def test_a_failure_that_a_tool_means_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It is an answer to the model."""

    def meant() -> str:
        """Fail."""
        raise ToolFailed("no such city")

    assert (await run(meant)).output_text == "no such city"
    assert caplog.records == []


@dataclass
class Measured:
    """A result with a number inside."""

    values: list[float | None]


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": [float("-inf")]}, Measured([1.0, float("inf")])], ids=str
)
async def test_a_number_that_json_does_not_have_is_a_failure(
    caplog: pytest.LogCaptureFixture, value: object
) -> None:
    """A null instead would be wrong and unnoticed."""

    def measure() -> object:
        """Measure."""
        return value

    result = await run(measure)
    assert result.is_error
    assert "NaN or Infinity" in result.output_text
    assert [it.levelno for it in caplog.records] == [logging.ERROR]


async def test_a_null_is_a_result() -> None:
    """Only numbers are looked at."""

    def measure() -> Measured:
        """Measure."""
        return Measured([1.0, None])

    result = await run(measure)
    assert (result.output_json, result.is_error) == ('{"values":[1.0,null]}', False)


def some(*words: str) -> None:
    """Take words."""


def named(**words: str) -> None:
    """Take named words."""


def positional(city: str, /) -> None:
    """Take a city by its place."""


def positional_context(context: ToolCallContext, /) -> None:
    """Take the context by its place."""


def anything(thing: object) -> None:
    """Take an object."""


def inside(things: list[object]) -> None:
    """Take objects."""


def odd_default(thing: Any = plain) -> None:
    """Take a function unless told otherwise."""


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "*": (some, r"some: parameter .*words.* variadic positional.*by name"),
    "**": (named, r"named: parameter .*words.* variadic keyword.*by name"),
    "positional": (positional, r"positional: parameter .*city.* positional-only.*by name"),
    "context": (positional_context, r"parameter .*context.* positional-only"),
    "object": (anything, r"anything: parameter 'thing' .*object.*no JSON Schema"),
    "inside": (inside, r"inside: parameter 'things' .*no JSON Schema"),
    "default": (odd_default, r"odd_default: the default of parameter 'thing'"),
}


@pytest.mark.parametrize(("function", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_parameter_that_no_model_can_give_is_refused(
    function: Callable[..., Any], words: str
) -> None:
    """By the decorator, which names the tool and the parameter."""
    with pytest.raises(TypeError, match=words):
        tool(function)
