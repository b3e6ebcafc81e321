"""Brings a PostgreSQL database to the schema of this server: only when the operator asks for it."""

from functools import partial

import asyncpg

from chatd_server.store.postgres.link import plain_url
from chatd_server.store.shared.upgrade import SCHEMA, VERSION, upgrade

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('chatd migrate'))"


async def schema_version(link: asyncpg.Connection) -> str | None:
    """Return the schema of a database; None when chatd has made none in it."""
    try:
        found: str | None = await link.fetchval(VERSION)
    except asyncpg.UndefinedTableError:
        return None
    return found


async def migrate(url: str) -> str | None:
    """Bring a database to SCHEMA; return the schema that it had.

    Raises SchemaTooNew, and what the driver raises.
    """
    link = await _connected(url)
    try:
        before = await schema_version(link)
    finally:
        await link.close()
    if before == SCHEMA:
        return before
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
            await connection.execute(text(_LOCK))
            await connection.run_sync(upgrade)
    except DBAPIError as error:
        raise error.driver_exception from error
    finally:
        await engine.dispose()
    return before


async def _connected(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(plain_url(url))
