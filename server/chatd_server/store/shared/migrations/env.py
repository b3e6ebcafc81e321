"""Runs the migrations on the connection that `migrate` hands over. Alembic calls this file."""

from alembic import context

from chatd_server.store.shared.schema import metadata

# One migration is one transaction, on SQLite as well, where `migrate` begins it.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
