"""What a title looks like."""

import re

from chatd_server.domain.text import well_formed

FIRST_WORDS = 6
"""How many words of a message stand for a title."""
TITLE_CHARACTERS_MAX = 80
"""Of a title that the service writes; people may write longer ones."""
TITLE_BYTES_MAX = 200
"""Of any title; the contract says the same."""

_LOOKED_AT_CHARACTERS_MAX = 2_000
_DECORATION = " \t\"'`*#“”„«»\u2018\u2019"
# A title is shown in lists and on terminals.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def first_words(text: str) -> str:
    """Return the first words of a message as a title; empty when it has none."""
    words = _clean(text[:_LOOKED_AT_CHARACTERS_MAX]).split()
    more = "…" if len(words) > FIRST_WORDS else ""
    return _cut(" ".join(words[:FIRST_WORDS]) + more)


def tidied(answer: str) -> str:
    """Return the title in a model's answer: its first line, without quotes; empty when none is."""
    for line in answer[:_LOOKED_AT_CHARACTERS_MAX].splitlines():
        title = " ".join(_clean(line).strip(_DECORATION).split())
        if title:
            return _cut(title)
    return ""


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", well_formed(text))


def _cut(title: str) -> str:
    """Return at most TITLE_CHARACTERS_MAX characters and TITLE_BYTES_MAX bytes."""
    if len(title) > TITLE_CHARACTERS_MAX:
        title = title[: TITLE_CHARACTERS_MAX - 1].rstrip() + "…"
    raw = title.encode()
    if len(raw) <= TITLE_BYTES_MAX:
        return title
    return raw[: TITLE_BYTES_MAX - len("…".encode())].decode(errors="ignore").rstrip() + "…"
