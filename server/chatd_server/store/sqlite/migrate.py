"""Brings a database file to the schema of this server: at every start."""

import sqlite3
from contextlib import closing
from pathlib import Path

from chatd_server.store.shared.errors import NotADatabase
from chatd_server.store.shared.upgrade import SCHEMA, VERSION, check_not_newer, upgrade
from chatd_server.store.sqlite.failures import translated

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


def migrate(path: Path) -> str | None:
    """Bring a file to SCHEMA, and make it if there is none; return the schema that it had.

    The caller holds the file's lock. Raises SchemaTooNew, NotADatabase, DatabaseUnavailable.
    """
    found = schema_version(path)
    if found == SCHEMA:
        return found
    check_not_newer(found)
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
    return found
