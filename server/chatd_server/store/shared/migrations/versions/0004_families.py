"""Lists of root chats, and of the children of one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ROOTS = "deleted_at IS NULL AND parent_id IS NULL"
_CHILDREN = "deleted_at IS NULL AND parent_id IS NOT NULL"


def upgrade() -> None:
    """Leave children out of the index of an owner's chats, and make theirs."""
    op.drop_index("chats_owned", "chats")
    _create("chats_owned", "owner_id", _ROOTS)
    _create("chats_children", "parent_id", _CHILDREN)


def _create(name: str, column: str, condition: str) -> None:
    op.create_index(
        name,
        "chats",
        [column, "id"],
        sqlite_where=sa.text(condition),
        postgresql_where=sa.text(condition),
    )
