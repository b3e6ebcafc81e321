"""The schema that this server needs, and how a connection is brought to it: forwards only."""

from pathlib import Path
from typing import TYPE_CHECKING

from chatd_server.store.shared.errors import SchemaOutdated, SchemaTooNew

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA = "0004"
"""The newest migration."""
VERSION = "SELECT version_num FROM alembic_version"
"""Which schema a database has, where it has that table."""


def check_not_newer(found: str | None) -> None:
    """Raise SchemaTooNew for a schema that a newer chatd made."""
    if found is not None and found > SCHEMA:
        raise SchemaTooNew(found, SCHEMA)


def check_version(found: str | None) -> None:
    """Raise SchemaOutdated or SchemaTooNew unless the schema is SCHEMA."""
    check_not_newer(found)
    if found != SCHEMA:
        raise SchemaOutdated(found, SCHEMA)


def upgrade(connection: "Connection") -> None:
    """Run the missing migrations in the transaction that the caller began; raises SchemaTooNew."""
    # Alembic and SQLAlchemy take a fifth of a second to import, and a database that is up to date
    # needs neither.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    check_not_newer(MigrationContext.configure(connection).get_current_revision())
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA)
