"""A context window in a vendor's metadata: which keys mean it, and which values count."""

import pytest

from chatd_server.providers.context_limit import (
    context_limit_of,
    is_context_limit,
    key_words,
    normalised,
    positive_number,
)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("camelCase", "camelcase"),
        ("kebab-case", "kebabcase"),
        ("snake_case", "snakecase"),
        ("UPPER", "upper"),
        ("with spaces", "withspaces"),
        ("", ""),
        ("123", "123"),
        ("Max_Context-Tokens", "maxcontexttokens"),
        ("context.limit", "contextlimit"),
    ],
)
def test_a_key_is_normalised_to_letters_and_digits(key: str, expected: str) -> None:
    """Vendors and gateways agree on no style."""
    assert normalised(key) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("max_context_tokens", ["max", "context", "tokens"]),
        ("maxContextTokens", ["max", "context", "tokens"]),
        ("MAX_CONTEXT", ["max", "context"]),
        ("ContextWindow", ["context", "window"]),
        ("context2limit", ["context", "limit"]),
        ("", []),
    ],
)
def test_a_key_is_split_into_words(key: str, expected: list[str]) -> None:
    """At every character that is no letter, and before a capital."""
    assert key_words(key) == expected


@pytest.mark.parametrize(
    "key",
    [
        *("context_limit", "context_window", "context_length", "max_context"),
        *("max_context_tokens", "max_input_tokens", "max_input_token", "input_token_limit"),
        *("Context-Window", "MAX_CONTEXT_TOKENS", "contextLimit", "modelContextLimit"),
        *("model_context_limit", "context_window_size", "context_length_max", "max_context_"),
        "max_context_limit",
    ],
)
def test_a_key_that_means_the_window(key: str) -> None:
    """By its exact letters, or by whole words."""
    assert is_context_limit(key)


@pytest.mark.parametrize(
    "key",
    [
        *("max_context_version", "context_tokens_used", "context_length_used"),
        *("context_window_used", "context_id", "", "model_name", "rate_limit"),
        *("max_tokens", "context"),
    ],
)
def test_a_key_that_means_something_else(key: str) -> None:
    """What was used is no limit, and a limit of the output is none of the context."""
    assert not is_context_limit(key)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (42, 42),
        (0, None),
        (-1, None),
        (128000.0, 128000),
        (128000.5, None),
        (float("inf"), None),
        (float("nan"), None),
        ("128000", 128000),
        (" 128000 ", 128000),
        ("not a number", None),
        ("", None),
        ("0", None),
        ("-1", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_a_value_is_a_positive_whole_number(value: object, expected: int | None) -> None:
    """Also as text; anything else counts for nothing."""
    assert positive_number(value) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"context_limit": 200000, "other_key": 999}, 200000),
        ({"provider": {"info": {"context_window": 100000}}}, 100000),
        ([{"context_limit": 50000}, {"context_limit": 80000}], 80000),
        ({"models": [{"context_limit": 128000}]}, 128000),
        ({"anthropic": {"context_limit": 200000, "max_context": 100}}, 200000),
        ({"openai": {"max_context_tokens": "128000"}}, 128000),
        ({"context_tokens_used": 5, "usage": {"total": 7}}, None),
        ({"context_limit": {"context_window": 7}}, 7),
        (5, None),
        (None, None),
        ({}, None),
    ],
)
def test_the_largest_window_anywhere_in_the_metadata_wins(
    metadata: object, expected: int | None
) -> None:
    """It is searched through and through, lists included."""
    assert context_limit_of(metadata) == expected


def test_metadata_may_be_as_deep_as_it_likes() -> None:
    """A gateway cannot end a turn with nested brackets."""
    deep: object = {"context_limit": 1}
    for _ in range(100_000):
        deep = [deep]
    assert context_limit_of(deep) == 1
