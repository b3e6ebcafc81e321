"""An index of the events that watchers of many chats are sent."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# StatusChanged, ActionRequired, ActionResolved, ChatUpdated, SubagentChanged, ChatDeleted.
_WATCHED = "kind IN (2, 4, 5, 9, 10, 11)"


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "events_watched",
        "events",
        ["txid", "chat", "sequence"],
        sqlite_where=sa.text(_WATCHED),
        postgresql_where=sa.text(_WATCHED),
    )
