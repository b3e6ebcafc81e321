"""Columns that one statement writes together. Both databases build placeholders and values from
the same list, so the two cannot disagree.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]

BIGINT = "bigint"
BOOLEAN = "boolean"
BYTES = "bytea"
SMALLINT = "smallint"
TEXT = "text"


class Column:
    """One column: its name, PostgreSQL's name of its type, and where its value comes from.

    `source` is an attribute of what is written, or a function of it; without one, the attribute
    that has the column's name.
    """

    def __init__(
        self, name: str, type_: str, source: str | Callable[[Any], Any] | None = None
    ) -> None:
        self.name = name
        self.type = type_
        self.source = name if source is None else source


class Columns:
    """A list of columns. `values(item)` returns the row of an item, `rows(items)` those of several.

    Columns that are `under` others take the values of these as well: `values(item, chat)`.
    """

    def __init__(self, *columns: Column, under: tuple[str, ...] = ()) -> None:
        self._columns = columns
        self.names = (*under, *(column.name for column in columns))
        self.values, self.rows = _compiled(columns, under)

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns)

    def replacing(self, column: Column) -> "Columns":
        """Return these columns with another source for one."""
        return Columns(*(column if it.name == column.name else it for it in self._columns))

    def under(self, *names: str) -> "Columns":
        """Return these columns after others, whose values the caller knows."""
        return Columns(*self._columns, under=names)


def _compiled(
    columns: tuple[Column, ...], under: tuple[str, ...]
) -> tuple[Callable[..., Row], Callable[..., list[Row]]]:
    """Return the functions that make a row, and a list of rows, each as one expression.

    Every write calls them, and a loop over the columns takes four times as long.
    """
    functions: dict[str, Any] = {}
    values = [*under]
    for column in columns:
        if isinstance(column.source, str):
            values.append(f"item.{column.source}")
        else:
            functions[f"_{column.name}"] = column.source
            values.append(f"_{column.name}(item)")
    row = f"({', '.join(values)},)"
    given = ", ".join(under)
    make_row = f"lambda item, {given}: {row}"
    make_rows = f"lambda items, {given}: [{row} for item in items]"
    return eval(make_row, functions), eval(make_rows, functions)  # noqa: S307  names of ours
