"""Brings a database to the schema of this server, and says which schema one has.

Databases are migrated forwards only. The embedded file is migrated when it is opened; PostgreSQL
only when somebody says so.
"""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chatd_server.store.errors import NotADatabase, SchemaOutdated, SchemaTooNew
from chatd_server.store.sqlite.failures import translated

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy import Connection

SCHEMA = "0002"
"""The newest migration, which is the schema that this server needs."""
_VERSION = "SELECT version_num FROM alembic_version"
_HAS_VERSION = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"


async def migrate(url: str) -> None:
    """Bring a database to SCHEMA; the URL is sqlite:///path or postgresql://...

    Raises SchemaTooNew, and what the driver says of a PostgreSQL.
    """
    if url.startswith("sqlite:///"):
        migrate_sqlite(Path(url.removeprefix("sqlite:///")))
        return
    # SQLAlchemy takes a fifth of a second to import, and a server that is up to date needs none.
    from sqlalchemy import text  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    # The driver reads the URL, as it does for the server: SQLAlchemy knows neither several hosts
    # nor libpq's parameters.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=partial(_connected, url), poolclass=NullPool
    )
    try:
        async with engine.begin() as connection:
            # Two servers that start at once migrate one after the other.
            lock = "SELECT pg_advisory_xact_lock(hashtext('chatd migrate'))"
            await connection.execute(text(lock))
            await connection.run_sync(_upgrade)
    except DBAPIError as error:
        raise error.driver_exception from error
    finally:
        await engine.dispose()


async def schema_version(url: str) -> str | None:
    """Return the schema that a database has; None when it has none of ours."""
    if url.startswith("sqlite:///"):
        return sqlite_version(Path(url.removeprefix("sqlite:///")))
    import asyncpg  # noqa: PLC0415

    connection = await _connected(url)
    try:
        found: str | None = await connection.fetchval(_VERSION)
        return found
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()


def check_version(found: str | None) -> None:
    """Raise SchemaOutdated or SchemaTooNew unless the schema is SCHEMA."""
    if found is not None and found > SCHEMA:
        raise SchemaTooNew(found, SCHEMA)
    if found != SCHEMA:
        raise SchemaOutdated(found, SCHEMA)


def sqlite_version(path: Path) -> str | None:
    """Return the schema of a file; None when there is none, or none of ours in it.

    Raises NotADatabase, and DatabaseUnavailable for a file that cannot be read now.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            if connection.execute(_HAS_VERSION).fetchone() is None:
                return None
            found = connection.execute(_VERSION).fetchone()
    except sqlite3.OperationalError as error:
        raise translated(error) from error
    except sqlite3.DatabaseError as error:
        raise NotADatabase(str(path)) from error
    return None if found is None else str(found[0])


def migrate_sqlite(path: Path) -> None:
    """Bring a file to SCHEMA, making it first if need be; raises SchemaTooNew, NotADatabase,
    DatabaseUnavailable.

    The caller holds the file's lock.
    """
    found = sqlite_version(path)
    if found == SCHEMA:
        return
    if found is not None and found > SCHEMA:
        raise SchemaTooNew(found, SCHEMA)
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
            _upgrade(connection)
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.OperationalError):
            raise translated(error.orig) from error
        raise
    finally:
        engine.dispose()


def _upgrade(connection: "Connection") -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found > SCHEMA:
        raise SchemaTooNew(found, SCHEMA)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA)


async def _connected(url: str) -> "asyncpg.Connection":
    import asyncpg  # noqa: PLC0415

    from chatd_server.store.postgres.link import plain_url  # noqa: PLC0415

    return await asyncpg.connect(plain_url(url))
