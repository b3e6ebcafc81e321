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
    """A list of columns. `values(item, *first)` returns the row (*first, one value per column)."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self.names = tuple(column.name for column in columns)
        self.values = _compiled(columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns)

    def rows(self, items: Any, *first: Any) -> list[Row]:
        """Return a row for each item."""
        values = self.values
        return [values(item, *first) for item in items]


def _compiled(columns: tuple[Column, ...]) -> Callable[..., Row]:
    """Return the function that makes a row of these columns, as one expression.

    Every write calls it, and a loop over the columns takes four times as long.
    """
    functions: dict[str, Any] = {}
    values = ["*first"]
    for column in columns:
        if isinstance(column.source, str):
            values.append(f"item.{column.source}")
        else:
            functions[column.name] = column.source
            values.append(f"{column.name}(item)")
    expression = f"lambda item, *first: ({', '.join(values)})"
    return eval(expression, functions)  # type: ignore[no-any-return]  # noqa: S307  names of ours
