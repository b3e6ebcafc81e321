"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    _chats()
    _queued_messages()
    _messages()
    _events()
    _commands()
    _tool_journal()
    _api_keys()


def _chats() -> None:
    op.create_table(
        "chats",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=False),
            nullable=False,
        ),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("parent_call_id", sa.Text(), nullable=True),
        sa.Column("root_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("head_sequence", sa.BigInteger(), nullable=False),
        sa.Column("oldest_sequence", sa.BigInteger(), nullable=False),
        sa.Column("next_position", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("journal", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("content_version", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("queue", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="chats_pk"),
        sa.UniqueConstraint("uuid", name="chats_uuid_unique"),
    )
    _chats_indexes()


def _chats_indexes() -> None:
    asking = "status = 'requires_action'"
    work = "worker_id IS NULL AND status IN ('pending', 'interrupting')"
    _partial("chats_actions", asking, "owner_id", "due_at", "id")
    _partial("chats_deadlines", asking, "due_at")
    _partial("chats_leases", "worker_id IS NOT NULL", "lease_expires_at")
    _partial("chats_owned", "deleted_at IS NULL", "owner_id", "id")
    _partial("chats_work", work, "due_at")


def _partial(name: str, condition: str, *columns: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "chats", list(columns), sqlite_where=where, postgresql_where=where)


def _queued_messages() -> None:
    op.create_table(
        "queued_messages",
        sa.Column("chat", sa.BigInteger(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("content_version", sa.SmallInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name="queued_messages_chat_fk"),
        sa.PrimaryKeyConstraint("chat", "uuid", name="queued_messages_pk"),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("chat", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("removed_revision", sa.BigInteger(), nullable=True),
        sa.Column("content_version", sa.SmallInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chat", "position", name="messages_pk"),
        sa.UniqueConstraint("chat", "uuid", name="messages_uuid_unique"),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name="messages_chat_fk"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("chat", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("content_version", sa.SmallInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("txid", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name="events_chat_fk"),
        sa.PrimaryKeyConstraint("chat", "sequence", name="events_pk"),
        sqlite_with_rowid=False,
    )


def _commands() -> None:
    op.create_table(
        "commands",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("chat", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name="commands_chat_fk"),
        sa.PrimaryKeyConstraint("key", name="commands_pk"),
    )
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "commands_age", "commands", ["created_at"], unique=False, postgresql_using="brin"
        )


def _tool_journal() -> None:
    op.create_table(
        "tool_journal",
        sa.Column("chat", sa.BigInteger(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("content_version", sa.SmallInteger(), nullable=False),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name="tool_journal_chat_fk"),
        sa.PrimaryKeyConstraint("chat", "call_id", name="tool_journal_pk"),
        sqlite_with_rowid=False,
    )


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="api_keys_pk"),
        sa.UniqueConstraint("key_hash", name="api_keys_hash_unique"),
    )
