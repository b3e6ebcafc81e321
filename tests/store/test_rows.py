"""The columns that the stores write and read are those of the schema."""

from typing import Any

import msgspec
import pytest
from sqlalchemy.dialects import postgresql

from chatd_server.domain.chat import ChatState, Lease
from chatd_server.domain.ids import ChatId, OwnerId, WorkerId
from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.store.shared import rows
from chatd_server.store.shared.changes import is_step
from chatd_server.store.shared.codec import HotState
from chatd_server.store.shared.columns import Columns
from chatd_server.store.shared.replay import Record
from chatd_server.store.shared.schema import metadata
from tests.domain.test_machine_change import FULL

WRITTEN_BY_SQL = {
    "chats": {"id", "content_version"},
    "messages": {"chat", "removed_revision", "content_version"},
    "events": {"chat", "content_version", "txid"},
    "commands": {"chat"},
    "queued_messages": {"chat", "content_version"},
    "tool_journal": {"chat", "content_version"},
    "api_keys": {"key_hash"},
}
"""Columns that a statement fills in itself: keys, versions, and what only SQL knows."""
WRITTEN: dict[str, tuple[Columns, ...]] = {
    "chats": rows.NEW_CHAT,
    "messages": (rows.MESSAGE,),
    "events": (rows.EVENT,),
    "commands": (rows.COMMAND,),
    "queued_messages": (rows.QUEUED,),
    "tool_journal": (rows.OUTCOME, rows.STARTED),
    "api_keys": (rows.KEY,),
}


@pytest.mark.parametrize("table", WRITTEN)
def test_every_column_of_the_schema_is_written(table: str) -> None:
    """A column that is added to the schema alone is noticed here."""
    written = {name for columns in WRITTEN[table] for name in columns.names}

    assert written | WRITTEN_BY_SQL[table] == set(metadata.tables[table].columns.keys())


def test_every_table_is_written_by_its_columns() -> None:
    """A new table is one more line above. The row of a secret is made by the database."""
    assert WRITTEN.keys() | {"secrets"} == metadata.tables.keys()


def test_every_column_of_a_chat_is_written_with_one_group() -> None:
    """A statement that writes two groups names no column twice."""
    names = [name for columns in rows.NEW_CHAT for name in columns.names]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("table", WRITTEN)
def test_the_types_of_the_columns_are_those_of_the_schema(table: str) -> None:
    """Arrays of rows are cast to them."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for columns in WRITTEN[table]:
        for column in columns:
            wanted = metadata.tables[table].columns[column.name].type.compile(dialect)
            assert column.type == wanted.lower(), (table, column.name)


def test_every_column_of_a_chat_is_read() -> None:
    """But for those that queries alone use."""
    for_queries = {"due_at", "labels"}

    assert set(rows.STATE_COLUMNS) | for_queries == set(metadata.tables["chats"].columns.keys())


def test_a_record_has_the_columns_of_its_table() -> None:
    """It is written and read by its fields."""
    assert rows.COMMAND.names == Record._fields


def test_a_state_comes_back_from_the_columns_that_were_written() -> None:
    """Each field of it stands in a column, or in the value that changes with each step."""
    state = msgspec.structs.replace(FULL, lease=Lease(WorkerId("w"), FULL.epoch, 9))
    written: dict[str, Any] = {"id": 1, "content_version": CONTENT_VERSION}
    for columns in rows.NEW_CHAT:
        written.update(zip(columns.names, columns.values(state), strict=True))
    row = rows.ChatRow(**{name: written[name] for name in rows.STATE_COLUMNS})

    assert rows.state_of(row, {it.id: it for it in state.queue}, {}) == state


def test_what_a_step_does_not_write_makes_a_transition_no_step() -> None:
    """A field that `is_step` overlooks is written only when something else changes, too."""
    stays = {column.source for column in rows.CREATED}
    step = {column.name for column in rows.STEP} | set(HotState.__struct_fields__)
    others = set(ChatState.__struct_fields__) - stays - step
    old = ChatState(
        id=ChatId("c"),
        owner_id=OwnerId("o"),
        root_id=ChatId("c"),
        created_at=1,
        updated_at=1,
        lease=Lease(WorkerId("w"), 1, 9),
    )
    assert is_step(old, old)
    # The epoch changes with the lease.
    for field in others - {"epoch"}:
        changed = msgspec.structs.replace(old, **{field: object()})
        assert not is_step(old, changed), field
