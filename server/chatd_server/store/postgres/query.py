"""Statements whose parameters have names. PostgreSQL knows them by number only."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from chatd_server.store.shared.columns import Column, Row

_NAME = re.compile(r"(?<!:):([a-z_]+)")


class Query:
    """A statement with `:name` for each parameter; `link.fetch(*query(name=value))` sends it."""

    def __init__(self, text: str) -> None:
        self._names = tuple(dict.fromkeys(_NAME.findall(text)))
        numbers = {name: f"${number}" for number, name in enumerate(self._names, 1)}
        self.text = _NAME.sub(lambda found: numbers[found[1]], text)

    def __call__(self, **values: Any) -> list[Any]:
        """Return the text and its arguments in order; raises KeyError for one that is missing."""
        return [self.text, *[values[name] for name in self._names]]


def unnest(alias: str, columns: Iterable[Column]) -> str:
    """Return the table of the rows that `arrays` hands over."""
    given = list(columns)
    types = ", ".join(f":{alias}_{column.name}::{column.type}[]" for column in given)
    return f"unnest({types}) AS {alias}({', '.join(column.name for column in given)})"


def arrays(alias: str, columns: Iterable[Column], rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
    """Return the parameters of `unnest`: an array for each column."""
    given = list(columns)
    values: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(given)
    return {f"{alias}_{column.name}": array for column, array in zip(given, values, strict=True)}
