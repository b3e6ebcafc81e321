"""Parsers for the fields of a directive: each returns a value or raises advice."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

SHOWN_CHARACTERS_MAX = 40
"""How much of an unreadable word is quoted."""


class Unreadable(Exception):
    """A directive has a syntax error; the message says what would be valid."""


def given(rest: str, what: str) -> str:
    """Return the text; it must not be empty."""
    if not rest:
        raise Unreadable(f"{what} is missing")
    return rest


def nothing(rest: str) -> None:
    """Check that no text follows."""
    if rest:
        raise Unreadable(f"nothing may follow here; remove {_shown(rest)}")


def whole(word: str, what: str, lowest: int, highest: int) -> int:
    """Return a whole number within bounds."""
    if re.fullmatch(r"[0-9]{1,15}", word) and lowest <= int(word) <= highest:
        return int(word)
    raise Unreadable(
        f"{what} must be a whole number from {lowest} to {highest}, not {_shown(word)}"
    )


def seconds(word: str, what: str, highest: int) -> float:
    """Return a number of seconds."""
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", word) and float(word) <= highest:
        return float(word)
    raise Unreadable(f"{what} must be a number of seconds up to {highest}, not {_shown(word)}")


def pace(word: str) -> float:
    """Return a pace in pieces per second."""
    number = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)/s", word)
    if number is not None and float(number[1]) > 0:
        return float(number[1])
    raise Unreadable(f"a pace must be a number above 0 and /s, such as 20/s, not {_shown(word)}")


def one_of(word: str, what: str, choices: Mapping[str, T]) -> T:
    """Return the value for a word of a closed list."""
    if word in choices:
        return choices[word]
    raise Unreadable(f"{what} must be one of {', '.join(choices)}; not {_shown(word)}")


def options(words: Iterable[str], *keys: str) -> dict[str, str]:
    """Return the values of `key=value` words; each key at most once."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in keys:
            raise Unreadable(f"{_shown(word)} is not one of {', '.join(f'{key}=' for key in keys)}")
        if key in found:
            raise Unreadable(f"{key}= is given twice")
        found[key] = value
    return found


def _shown(word: str) -> str:
    return repr(word if len(word) <= SHOWN_CHARACTERS_MAX else word[:SHOWN_CHARACTERS_MAX] + "…")
