"""Statements whose parameters have names."""

import pytest

from chatd_server.store.postgres.query import Query, arrays, unnest
from chatd_server.store.shared.columns import BIGINT, TEXT, Column


def test_a_name_is_one_parameter_wherever_it_stands() -> None:
    """Parameters are numbered in the order of their first use; a cast is not one."""
    query = Query("SELECT :now::bigint, :name WHERE at <= :now")

    assert query(name="a", now=7) == ["SELECT $1::bigint, $2 WHERE at <= $1", 7, "a"]


def test_a_parameter_that_is_missing_is_an_error() -> None:
    """It is a defect of the caller, found before anything is sent."""
    with pytest.raises(KeyError, match="name"):
        Query("SELECT :name")()


@pytest.mark.parametrize("rows", [[], [(1, "a"), (2, "b")]])
def test_rows_travel_as_an_array_for_each_column(rows: list[tuple[int, str]]) -> None:
    """Also when there are none, in the order of the columns."""
    columns = (Column("position", BIGINT), Column("uuid", TEXT))

    text, *values = Query(unnest("m", columns))(**arrays("m", columns, rows))

    assert text == "unnest($1::bigint[], $2::text[]) AS m(position, uuid)"
    assert [list(it) for it in values] == [[it[0] for it in rows], [it[1] for it in rows]]
