"""The tables, for both dialects. Every constraint and index has a name, and a query that needs it.

Physical keys are integers; the UUID of a chat is a unique column at the edge. Content is JSON in
bytes, never text: NUL survives, and only the codec looks inside. Times are microseconds
since the Unix epoch, UTC.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from chatd_server.store.shared.conditions import (
    CHATS_ASKING,
    CHATS_CHILDREN,
    CHATS_HELD,
    CHATS_LISTED,
    CHATS_WITH_WORK,
    EVENTS_WATCHED,
)

metadata = MetaData()

chats = Table(
    "chats",
    metadata,
    # SQLite keeps row ids in a column of type INTEGER and no other.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity()),
    Column("uuid", Text, nullable=False),
    # Empty once the chat is deleted.
    Column("owner_id", Text, nullable=False),
    # UUIDs; a root chat is its own root. Set when the chat is made and never again.
    Column("parent_id", Text),
    Column("parent_call_id", Text),
    Column("root_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("deleted_at", BigInteger),
    # +1 for each transition. Every write compares it.
    Column("revision", BigInteger, nullable=False),
    Column("head_sequence", BigInteger, nullable=False),
    # Moved by retention only, never by a transition.
    Column("oldest_sequence", BigInteger, nullable=False),
    Column("next_position", BigInteger, nullable=False),
    # The lease. Written by the transitions that grant or end it and by heartbeats only: a
    # transition decided on an older state must not shorten it.
    Column("epoch", BigInteger, nullable=False),
    Column("worker_id", Text),
    Column("lease_expires_at", BigInteger),
    # +1 for each write to tool_journal. A transition that closes calls compares it too.
    Column("journal", BigInteger, nullable=False),
    # pending, interrupting: when work may begin; requires_action: the deadline; else NULL.
    Column("due_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Version of `state`, `config` and `queue`.
    Column("content_version", SmallInteger, nullable=False),
    # The part of the state that changes with each step.
    Column("state", LargeBinary, nullable=False),
    # What the owner chose; rewritten only when it changes. `labels` repeats its labels for filters.
    Column("config", LargeBinary, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    # Ids of the queued messages, head first; NULL when there are none. The order is one value, so
    # a reorder is one write and needs no unique positions.
    Column("queue", LargeBinary),
    PrimaryKeyConstraint("id", name="chats_pk"),
    # Every load and write by the id that clients know.
    UniqueConstraint("uuid", name="chats_uuid_unique"),
)


def _partial(name: str, condition: str, *columns: Column[Any]) -> None:
    Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


# acquire: chats that have work and no worker, oldest work first; next_due: the earliest retry.
_partial("chats_work", CHATS_WITH_WORK, chats.c.due_at)
# rescue: chats whose lease has expired; next_due: the earliest end of a lease.
_partial("chats_leases", CHATS_HELD, chats.c.lease_expires_at)
# expire_actions: actions past their deadline; next_due: the earliest deadline.
_partial("chats_deadlines", CHATS_ASKING, chats.c.due_at)
# list_actions: an owner's chats that wait for the client, first deadline first.
_partial("chats_actions", CHATS_ASKING, chats.c.owner_id, chats.c.due_at, chats.c.id)
# list_chats: an owner's root chats, newest first.
_partial("chats_owned", CHATS_LISTED, chats.c.owner_id, chats.c.id)
# list_chats: the children of one, newest first; apply_family: its members.
_partial("chats_children", CHATS_CHILDREN, chats.c.parent_id, chats.c.id)

queued_messages = Table(
    "queued_messages",
    metadata,
    Column("chat", BigInteger, nullable=False),
    Column("uuid", Text, nullable=False),
    Column("content_version", SmallInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    # The queue of one chat; its order is chats.queue.
    PrimaryKeyConstraint("chat", "uuid", name="queued_messages_pk"),
    ForeignKeyConstraint(["chat"], ["chats.id"], name="queued_messages_chat_fk"),
)

messages = Table(
    "messages",
    metadata,
    Column("chat", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("uuid", Text, nullable=False),
    Column("role", Text, nullable=False),
    # Sequence of the event that announced it.
    Column("sequence", BigInteger, nullable=False),
    # Revision that removed it; NULL while it stands. A reader of revision r sees the messages
    # that were removed after r, so a snapshot can be read in several transactions.
    Column("removed_revision", BigInteger),
    Column("content_version", SmallInteger, nullable=False),
    # The whole message: one value in, one value out.
    Column("content", LargeBinary, nullable=False),
    # Pages of the history, the context of a turn, and the messages of a page of events.
    PrimaryKeyConstraint("chat", "position", name="messages_pk"),
    # message_position: a message by the id that clients know.
    UniqueConstraint("chat", "uuid", name="messages_uuid_unique"),
    ForeignKeyConstraint(["chat"], ["chats.id"], name="messages_chat_fk"),
)

events = Table(
    "events",
    metadata,
    Column("chat", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    # Number of the kind; see codec.EVENT_KINDS.
    Column("kind", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    # The message that a message_committed refers to; it has a payload only if the message does not
    # say it all.
    Column("position", BigInteger),
    Column("content_version", SmallInteger, nullable=False),
    Column("payload", LargeBinary),
    # The transaction that wrote it, for readers of many chats. SQLite: a number that rises with
    # each commit. PostgreSQL: its own id; a reader stops below the oldest running one.
    Column("txid", BigInteger, nullable=False),
    # A page of the log after a cursor; the rows of a chat lie together.
    PrimaryKeyConstraint("chat", "sequence", name="events_pk"),
    ForeignKeyConstraint(["chat"], ["chats.id"], name="events_chat_fk"),
    sqlite_with_rowid=False,
)

# watched: the events that watchers are sent, in the order of their transactions.
Index(
    "events_watched",
    events.c.txid,
    events.c.chat,
    events.c.sequence,
    sqlite_where=text(EVENTS_WATCHED),
    postgresql_where=text(EVENTS_WATCHED),
)

commands = Table(
    "commands",
    metadata,
    # Hash of the command's or the request's id; see codec.command_key.
    Column("key", LargeBinary, nullable=False),
    Column("chat", BigInteger, nullable=False),
    # Head of the log after the command.
    Column("sequence", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Of a request with an id: a hash of its body, and its answer.
    Column("body_hash", LargeBinary),
    Column("response", LargeBinary),
    # Every command looks its key up, or fails to insert it.
    PrimaryKeyConstraint("key", name="commands_pk"),
    ForeignKeyConstraint(["chat"], ["chats.id"], name="commands_chat_fk"),
)

# prune_commands on PostgreSQL. On SQLite rows lie in the order of their insertion.
Index("commands_age", commands.c.created_at, postgresql_using="brin").ddl_if(dialect="postgresql")

tool_journal = Table(
    "tool_journal",
    metadata,
    Column("chat", BigInteger, nullable=False),
    Column("call_id", Text, nullable=False),
    # NULL for a client's call, which has only an outcome.
    Column("started_at", BigInteger),
    Column("content_version", SmallInteger, nullable=False),
    Column("outcome", LargeBinary),
    # The journal of the open calls of one chat.
    PrimaryKeyConstraint("chat", "call_id", name="tool_journal_pk"),
    ForeignKeyConstraint(["chat"], ["chats.id"], name="tool_journal_chat_fk"),
    sqlite_with_rowid=False,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    # revoke_key.
    PrimaryKeyConstraint("id", name="api_keys_pk"),
    # find_key: every authenticated request that the cache does not answer.
    UniqueConstraint("key_hash", name="api_keys_hash_unique"),
)

secrets = Table(
    "secrets",
    metadata,
    # Its purpose, for example "page_token".
    Column("name", Text, nullable=False),
    # Random bytes, made by the first server that needs them.
    Column("value", LargeBinary, nullable=False),
    # secret: once at each start.
    PrimaryKeyConstraint("name", name="secrets_pk"),
)
