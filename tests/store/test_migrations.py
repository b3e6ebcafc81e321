"""The migrations make the tables of `schema`, once, and never backwards."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.store.shared import upgrade
from chatd_server.store.shared.errors import SchemaOutdated, SchemaTooNew
from chatd_server.store.shared.schema import metadata
from chatd_server.store.sqlite import files
from chatd_server.store.sqlite.migrate import migrate, schema_version, upgrade_file
from scripts.new_file_sql import TARGET, page

_TABLES = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND sql IS NOT NULL"


def _definitions(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name: " ".join(sql.split()) for name, sql in connection.execute(_TABLES)}


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_migrations_make_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    """A migrated file and one made from the metadata have the same tables, keys and indexes."""
    migrated, made = tmp_path / "migrated.db", tmp_path / "made.db"
    upgrade_file(migrated)
    engine = create_engine(f"sqlite:///{made}")
    metadata.create_all(engine)
    engine.dispose()

    assert _definitions(migrated) == _definitions(made)


def test_a_new_file_begins_with_what_the_migrations_make(tmp_path: Path) -> None:
    """It is made without Alembic, whose import takes longer than all else at a first start."""
    assert TARGET.read_text(encoding="utf-8") == page()
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    migrate(made)
    upgrade_file(migrated)
    assert _dump(made) == _dump(migrated)


def test_a_file_with_tables_of_somebody_else_is_migrated_and_keeps_them(tmp_path: Path) -> None:
    """Only an empty file is new."""
    path = tmp_path / "chatd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.commit()
    assert migrate(path) is None
    assert schema_version(path) == upgrade.SCHEMA
    assert "theirs" in _definitions(path)


def test_nothing_is_left_to_migrate(tmp_path: Path) -> None:
    """Alembic itself finds no difference between a migrated file and the metadata."""
    migrate(tmp_path / "chatd.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'chatd.db'}")

    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    # An index that PostgreSQL alone has.
    assert [change for change in found if getattr(change[1], "name", "") != "commands_age"] == []


def test_the_schema_named_in_code_is_the_newest_migration() -> None:
    """The constant that saves an import says the truth."""
    config = Config()
    config.set_main_option("script_location", str(Path(upgrade.__file__).parent / "migrations"))

    assert ScriptDirectory.from_config(config).get_heads() == [upgrade.SCHEMA]


def test_every_constraint_and_index_has_a_name() -> None:
    """A later migration can only change what it can name."""
    for table in metadata.tables.values():
        for constraint in table.constraints:
            assert constraint.name, (table.name, constraint)
        for index in table.indexes:
            assert index.name


def test_a_fresh_file_is_migrated_and_says_its_version(tmp_path: Path) -> None:
    """`migrate` makes the file; a second time it changes nothing."""
    path = tmp_path / "chatd.db"
    assert schema_version(path) is None

    assert migrate(path) is None
    assert migrate(path) == upgrade.SCHEMA

    assert schema_version(path) == upgrade.SCHEMA


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A database of a newer server is left alone, and the message says what to do."""
    path = tmp_path / "chatd.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    with pytest.raises(SchemaTooNew, match="update chatd"):
        migrate(path)
    with pytest.raises(SchemaTooNew):
        upgrade.check_version(schema_version(path))


def test_an_older_schema_is_refused_with_the_command_that_helps() -> None:
    """A server that may not migrate by itself names `chatd migrate`."""
    upgrade.check_version(upgrade.SCHEMA)
    for found in (None, "0000"):
        with pytest.raises(SchemaOutdated, match="chatd migrate"):
            upgrade.check_version(found)


def test_a_file_that_cannot_be_read_now_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    """As on a full disk, where the write-ahead log cannot be opened."""
    path = tmp_path / "chatd.db"
    migrate(path)
    files.writing(path).close()
    (tmp_path / "chatd.db-wal").mkdir()
    with pytest.raises(DatabaseUnavailable):
        migrate(path)


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    """Its tables have our names: the error says so, and no table is added to them."""
    path = tmp_path / "chatd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE messages (words TEXT)")
    with pytest.raises(DatabaseUnavailable, match="messages already exists"):
        migrate(path)
    assert list(_definitions(path)) == ["messages"]
