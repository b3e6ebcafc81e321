"""Finds the context window in what a vendor or a gateway says next to an answer.

There is no standard for it, so metadata of any shape is searched for keys that mean it. A key is
compared by whole words: `context_tokens_used` or `rate_limit` is something else.
"""

import re
from collections.abc import Iterator

_EXACT = frozenset(
    {
        "contextlimit",
        "contextwindow",
        "contextlength",
        "maxcontext",
        "maxcontexttokens",
        "maxinputtokens",
        "maxinputtoken",
        "inputtokenlimit",
    }
)
_WORD = re.compile(r"[A-Z]+[a-z]*|[a-z]+")
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]")


def context_limit_of(metadata: object) -> int | None:
    """Return the largest context window in decoded JSON, in tokens; None when there is none."""
    return max(_found(metadata), default=None)


def _found(metadata: object) -> Iterator[int]:
    # Not recursive: a vendor decides how deep it is.
    left = [metadata]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            for key, one in value.items():
                if is_context_limit(key) and (tokens := positive_number(one)) is not None:
                    yield tokens
        elif isinstance(value, list):
            left += value


def is_context_limit(key: str) -> bool:
    """Return whether a key names the size of a context window."""
    if normalised(key) in _EXACT:
        return True
    words = set(key_words(key))
    return "context" in words and (
        "limit" in words
        or ("window" in words and bool(words & {"size", "max"}))
        or ("length" in words and "max" in words)
        or (bool(words & {"token", "tokens"}) and bool(words & {"max", "limit"}))
    )


def normalised(key: str) -> str:
    """Return the letters and digits of a key, in lower case."""
    return _NOT_IN_A_KEY.sub("", key.lower())


def key_words(key: str) -> list[str]:
    """Return the words of a key in lower case, whether it is in snake, kebab or camel case."""
    return [word.lower() for word in _WORD.findall(key)]


def positive_number(value: object) -> int | None:
    """Return a positive whole number, which may be written as text or as a fraction of one."""
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value > 0 and value == value // 1 else None
