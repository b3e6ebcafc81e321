"""Brings a database file to the schema of this server: at every start."""

import sqlite3
from contextlib import closing
from pathlib import Path

from chatd_server.store.shared.errors import NotADatabase
from chatd_server.store.shared.upgrade import SCHEMA, VERSION, check_not_newer, upgrade
from chatd_server.store.sqlite.failures import translated

NEW_FILE = Path(__file__).with_name("new_file.sql")
"""What a new file begins with; generated from the migrations by `make docs`."""

_HAS_VERSION = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"


def schema_version(path: Path) -> str | None:
    """Return the schema of a file; None when there is no file, or no schema of chatd in it.

    Raises NotADatabase, and DatabaseUnavailable for a file that cannot be read now.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            if connection.execute(_HAS_VERSION).fetchone() is None:
                return None
            found = connection.execute(VERSION).fetchone()
    except sqlite3.OperationalError as error:
        raise translated(error) from error
    except sqlite3.DatabaseError as error:
        raise NotADatabase(str(path)) from error
    return None if found is None else str(found[0])


def _is_empty(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _make(path: Path) -> None:
    """Make the tables as all migrations together do: to import Alembic takes most of a start."""
    tables = NEW_FILE.read_text(encoding="utf-8")
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(f"BEGIN IMMEDIATE;\n{tables}COMMIT;")
    except sqlite3.OperationalError as error:
        raise translated(error) from error


def migrate(path: Path) -> str | None:
    """Bring a file to SCHEMA, and make it if there is none; return the schema that it had.

    The caller holds the file's lock. Raises SchemaTooNew, NotADatabase, DatabaseUnavailable.
    """
    found = schema_version(path)
    if found == SCHEMA:
        return found
    check_not_newer(found)
    if found is None and _is_empty(path):
        _make(path)
    else:
        upgrade_file(path)
    return found


def upgrade_file(path: Path) -> None:
    """Run the missing migrations. Raises DatabaseUnavailable."""
    from sqlalchemy import create_engine, event  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    engine = create_engine(
        f"sqlite:///{path}", poolclass=NullPool, connect_args={"isolation_level": None}
    )
    # The driver would begin no transaction before DDL, and a half-made schema could stay.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            upgrade(connection)
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.OperationalError):
            raise translated(error.orig) from error
        raise
    finally:
        engine.dispose()
