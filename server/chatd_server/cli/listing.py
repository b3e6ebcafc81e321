"""Lists for people and for pipes. Values to copy come first and are never cut."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

NOTHING = "-"
"""Shown for an empty value."""


@dataclass(frozen=True)
class Row:
    """One item: short values, and texts that may be long."""

    columns: tuple[str, ...]
    texts: tuple[str, ...]


class Listing:
    """Prints rows. On a terminal, a row is a line of its columns, and its texts are wrapped below;
    else it is one line with tabs.
    """

    def __init__(self) -> None:
        # Python has no standard output where the shell has closed it.
        self._is_for_people = sys.stdout is not None and sys.stdout.isatty()

    def moment(self, at: datetime) -> str:
        """Format a time: local and short for people, else exact."""
        if self._is_for_people:
            return at.astimezone().strftime("%Y-%m-%d %H:%M")
        return at.astimezone(UTC).isoformat()

    def show(self, names: Row, rows: Iterable[Row]) -> None:
        """Print the rows, for people with the names above them."""
        clean = [_clean(row) for row in rows]
        if not self._is_for_people:
            for row in clean:
                print("\t".join((*row.columns, *row.texts)))
            return
        console = Console(highlight=False)
        columns = zip(*(row.columns for row in (names, *clean)), strict=True)
        widths = [max(map(len, column)) for column in columns]
        for row, style in ((names, "dim"), *((row, "") for row in clean)):
            # The last column is not padded: a value may be too long to align.
            *before, last = row.columns
            padded = [word.ljust(width) for word, width in zip(before, widths, strict=False)]
            console.print(Text("  ".join((*padded, last)), style=style), soft_wrap=True)
            console.print(
                Padding(Text(" · ".join(row.texts), style="dim"), (0, 0, 0, 4), expand=False)
            )


def _clean(row: Row) -> Row:
    return Row(tuple(map(_word, row.columns)), tuple(map(_word, row.texts)))


def _word(text: str) -> str:
    return "".join(it if it.isprintable() else " " for it in text) or NOTHING
