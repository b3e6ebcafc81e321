"""The sandbox's generated words: always the same, and not all ASCII.

A token is a word with the white space before it, so joined tokens give the text.
"""

import re
from collections.abc import Iterator

VOCABULARY = (
    *("the", "sandbox", "says", "grüße", "aus", "dem", "sandkasten", "and", "counts"),
    *("its", "words", "naïve", "café", "🙂", "smörgåsbord", "żółw", "Ωμέγα", "привет"),
    *("砂場", "で", "遊ぶ", "👩‍🚀", "flies", "over", "Ærøskøbing", "while", "e\u0301clair"),
    *("waits", "beside", "a", "𝄞", "and", "nobody", "hurries", "ß", "🇳🇴", "stop."),
)
"""1 to 4 bytes per character, with joiners, a combining accent, a flag, and characters beyond the
basic plane: what a client must handle at the edge of a delta."""

COUNTED = 10
"""Every tenth word is its own number, so that a gap or a repetition is visible."""

COUNTED_CHARACTERS = 65_536
"""Words are counted in pieces of this many characters: less than a millisecond each."""

_PIECE = re.compile(r"\s{0,64}\S{1,64}|\s{1,64}")


def tokens(source: int | str) -> Iterator[str]:
    """Yield `source` generated words, or the words of a given text."""
    if isinstance(source, int):
        return _own(source)
    return (piece.group() for piece in _PIECE.finditer(source))


def count(text: str, piece: int = COUNTED_CHARACTERS) -> int:
    """Count the words of a text, in pieces, so that other threads can run in between."""
    words = 0
    is_open = False
    for part in pieces(text, piece):
        words += len(part.split()) - (is_open and not part[0].isspace())
        is_open = not part[-1].isspace()
    return words


def pieces(text: str, size: int) -> Iterator[str]:
    """Yield a text in pieces of `size` characters."""
    return (text[start : start + size] for start in range(0, len(text), size))


def _own(count: int) -> Iterator[str]:
    for number in range(1, count + 1):
        space = " " if number > 1 else ""
        word = VOCABULARY[(number - 1) % len(VOCABULARY)] if number % COUNTED else str(number)
        yield space + word
