"""Type hints as the arguments of a tool."""

import json
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta

from chatd_server.ports.tools import ToolContext
from chatd_server.tools.schema import Arguments, InvalidArguments


async def everything(
    text: Annotated[str, "Some words."],
    count: Annotated[int, Meta(ge=0, description="How many.")],
    share: float,
    flag: bool,
    names: list[str],
    labels: dict[str, int],
    mode: Literal["fast", "slow"],
    anything: Any,
    maybe: str | None = None,
    loose: list = [],  # type: ignore[type-arg]  # noqa: B006  what a careless author writes
    limit: int = 3,
    *,
    context: ToolContext,
) -> None:
    """Take one of each."""


GOOD: dict[str, Any] = {
    "text": "a",
    "count": 1,
    "share": 1,
    "flag": True,
    "names": ["a"],
    "labels": {"a": 1},
    "mode": "fast",
    "anything": [None],
}


def read(**changes: Any) -> dict[str, Any]:
    """Parse valid arguments with these changes."""
    return Arguments(everything).read(json.dumps(GOOD | changes))


def problems(**changes: Any) -> list[str]:
    """Return the problems of valid arguments after these changes."""
    with pytest.raises(InvalidArguments) as caught:
        read(**changes)
    return caught.value.problems


def test_the_schema_says_what_the_hints_say() -> None:
    """Types, bounds, descriptions, defaults and required arguments."""
    schema = json.loads(Arguments(everything).schema())

    Draft202012Validator.check_schema(schema)
    assert schema == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "Some words."},
            "count": {"type": "integer", "minimum": 0, "description": "How many."},
            "share": {"type": "number"},
            "flag": {"type": "boolean"},
            "names": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
            "mode": {"enum": ["fast", "slow"]},
            "anything": {},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "loose": {"type": "array", "default": []},
            "limit": {"type": "integer", "default": 3},
        },
        "required": ["text", "count", "share", "flag", "names", "labels", "mode", "anything"],
        "additionalProperties": False,
    }


def test_good_arguments_are_read_and_defaults_left_to_the_function() -> None:
    """The context is not an argument."""
    arguments = Arguments(everything)

    assert read() == GOOD
    assert read(maybe=None, limit=4) == GOOD | {"maybe": None, "limit": 4}
    assert arguments.context_name == "context"


def test_all_problems_are_reported_at_once() -> None:
    """A model can correct its call at once."""
    takes = (
        "there is no such argument; the tool takes text, count, share, flag, names, labels, mode, "
        "anything, maybe, loose, limit"
    )

    assert problems(text=1, count=-1, names=["a", 2], mode="Fast", extra=0, context={}) == [
        "text: Expected `str`, got `int`",
        "count: Expected `int` >= 0",
        "names[1]: Expected `str`, got `int`",
        "mode: Invalid enum value 'Fast'",
        f"extra: {takes}",
        f"context: {takes}",
    ]


def test_missing_arguments_are_named() -> None:
    """Empty text is the same as an empty object."""
    for nothing in ("", "  ", "{}"):
        with pytest.raises(InvalidArguments) as caught:
            Arguments(everything).read(nothing)
        assert [p.partition(":")[0] for p in caught.value.problems] == list(GOOD)
        assert caught.value.problems[0] == "text: is missing"


@pytest.mark.parametrize("changes", [{"count": True}, {"flag": 1}, {"share": "1"}, {"count": 1.5}])
def test_values_are_not_bent_into_a_type(changes: dict[str, Any]) -> None:
    """A value of a similar type is a problem, not a guess."""
    assert len(problems(**changes)) == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("[]", "cannot be read: Expected `object`"),
        ("null", "cannot be read: Expected `object`"),
        ('"{}"', "cannot be read: Expected `object`"),
        ("{", "are not valid JSON"),
        ('{"text":}', "are not valid JSON"),
        ('{"text":"\\ud800"}', "are not valid JSON"),
        ('{"a":' + "[" * 100_000, "are nested too deeply"),
        ('{"count":' + "9" * 4301 + "}", "cannot be read: Integer value out of range"),
        ("\x00", "are not valid JSON"),
    ],
    ids=["array", "null", "text", "cut", "hole", "surrogate", "deep", "digits", "nul"],
)
def test_arguments_that_are_not_an_object_are_one_problem(arguments: str, words: str) -> None:
    """Whatever a model writes, it gets a response."""
    with pytest.raises(InvalidArguments) as caught:
        Arguments(everything).read(arguments)

    (problem,) = caught.value.problems
    assert problem.startswith(f"the arguments {words}")


async def _untyped(a) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  the point of it
    """Lack a hint."""


async def _starred(*a: str) -> None:
    """Has no keyword for its arguments."""


async def _foreign(a: list[Arguments]) -> None:
    """Takes a type that JSON cannot represent."""


@pytest.mark.parametrize("function", [_untyped, _starred, _foreign])
def test_a_signature_that_is_not_understood_is_refused_at_once(function: Any) -> None:
    """The author gets the error when the server starts, not when a model calls."""
    with pytest.raises(TypeError, match=r"^a"):
        Arguments(function)
