"""Every statement of the SQLite store. They are prepared once and reused.

Parameters have names; rows are inserted and updated by the columns of `shared.rows`, with `?`.
"""

from collections.abc import Sequence
from functools import lru_cache

from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.store.shared import rows
from chatd_server.store.shared.columns import Columns
from chatd_server.store.shared.conditions import (
    CHATS_ASKING,
    CHATS_CHILDREN,
    CHATS_HELD,
    CHATS_LISTED,
    CHATS_WITH_WORK,
    EVENTS_WATCHED,
)
from chatd_server.store.shared.replay import Record
from chatd_server.store.shared.watching import COLUMNS, PLACE

_STATE = ", ".join(rows.STATE_COLUMNS)


def _insert(table: str, *names: str, versioned: bool = True) -> str:
    """Return the statement for a row of these columns, and the version of its content."""
    into, values = [*names], ["?"] * len(names)
    if versioned:
        into.append("content_version")
        values.append(str(CONTENT_VERSION))
    return f"INSERT INTO {table} ({', '.join(into)}) VALUES ({', '.join(values)})"


# --- the chat ------------------------------------------------------------------------------

CHAT_ROW = "SELECT id FROM chats WHERE uuid = ?"
LOAD = f"SELECT {_STATE} FROM chats WHERE uuid = ?"
LOAD_ROW = f"SELECT {_STATE} FROM chats WHERE id = ?"
CHILDREN = f"SELECT uuid FROM chats WHERE parent_id = ? AND {CHATS_CHILDREN} ORDER BY id"
CONFIG = "SELECT content_version, config FROM chats WHERE id = ?"
CONTENTS_OF_QUEUE = "SELECT uuid, content_version, content FROM queued_messages WHERE chat = ?"
JOURNAL = "SELECT call_id, started_at, content_version, outcome FROM tool_journal WHERE chat = ?"
# Calls whose results are kept.
ANSWERED = "SELECT call_id FROM tool_journal WHERE chat = ? AND outcome IS NOT NULL"

INSERT_CHAT = _insert("chats", *(name for group in rows.NEW_CHAT for name in group.names))
COMPARE = "id = ? AND revision = ? AND epoch = ?"
COMPARE_LEASE = f"{COMPARE} AND {CHATS_HELD}"
COMPARE_JOURNAL = f"{COMPARE} AND journal = ?"


@lru_cache(maxsize=64)
def update_chat(groups: Sequence[Columns], compare: str) -> str:
    """Return the statement that writes these columns of a chat if the comparison holds."""
    names = [f"{name} = ?" for group in groups for name in group.names]
    return (
        f"UPDATE chats SET {', '.join(names)}, content_version = {CONTENT_VERSION} WHERE {compare}"
    )


# --- the rows of a chat --------------------------------------------------------------------

MESSAGE = rows.MESSAGE.under("chat")
EVENT = rows.EVENT.under("chat", "txid")
QUEUED = rows.QUEUED.under("chat")
INSERT_MESSAGE = _insert("messages", *MESSAGE.names)
REMOVE_MESSAGES = """
UPDATE messages SET removed_revision = :revision
WHERE chat = :chat AND position >= :position AND removed_revision IS NULL
"""
INSERT_EVENT = _insert("events", *EVENT.names)
INSERT_QUEUED = _insert("queued_messages", *QUEUED.names)
DELETE_QUEUED = "DELETE FROM queued_messages WHERE chat = ? AND uuid = ?"
INSERT_COMMAND = _insert("commands", "chat", *Record._fields, versioned=False)
FIND_COMMAND = f"SELECT chat, {', '.join(Record._fields)} FROM commands WHERE key = ?"

# --- journal -------------------------------------------------------------------------------

STARTED = rows.STARTED.under("chat")
OUTCOME = rows.OUTCOME.under("chat")
COUNT_JOURNAL = f"""
UPDATE chats SET journal = journal + 1 WHERE uuid = :uuid AND epoch = :epoch AND {CHATS_HELD}
RETURNING id
"""
START_CALL = f"""
{_insert("tool_journal", *STARTED.names)}
ON CONFLICT (chat, call_id) DO UPDATE SET started_at = excluded.started_at
"""
# The first outcome stands.
RECORD_OUTCOME = f"""
{_insert("tool_journal", *OUTCOME.names)}
ON CONFLICT (chat, call_id) DO UPDATE
SET outcome = excluded.outcome, content_version = excluded.content_version
WHERE outcome IS NULL
"""
CLOSE_CALL = "DELETE FROM tool_journal WHERE chat = ? AND call_id = ?"

# --- leases and deadlines ------------------------------------------------------------------

WORK = f"""
SELECT uuid FROM chats WHERE {CHATS_WITH_WORK} AND due_at <= :now ORDER BY due_at LIMIT :limit
"""
BEAT = """
UPDATE chats SET lease_expires_at = :expires_at
FROM (SELECT json_extract(value, '$[0]') AS uuid, json_extract(value, '$[1]') AS epoch
      FROM json_each(:held)) AS held
WHERE chats.uuid = held.uuid AND chats.epoch = held.epoch AND chats.worker_id = :worker_id
RETURNING uuid, epoch, revision, status
"""
EXPIRED_LEASES = f"""
SELECT uuid FROM chats WHERE {CHATS_HELD} AND lease_expires_at <= :now
ORDER BY lease_expires_at LIMIT :limit
"""
VOID_LEASES = f"UPDATE chats SET lease_expires_at = min(lease_expires_at, ?) WHERE {CHATS_HELD}"
EXPIRED_ACTIONS = f"""
SELECT uuid FROM chats WHERE {CHATS_ASKING} AND due_at <= :now ORDER BY due_at LIMIT :limit
"""
NEXT_RETRY = f"SELECT min(due_at) FROM chats WHERE {CHATS_WITH_WORK} AND due_at > ?"
NEXT_DEADLINE = f"SELECT min(due_at) FROM chats WHERE {CHATS_ASKING}"
NEXT_EXPIRY = f"SELECT min(lease_expires_at) FROM chats WHERE {CHATS_HELD}"

# --- reads ---------------------------------------------------------------------------------

HEADS = "SELECT id, oldest_sequence, head_sequence FROM chats WHERE uuid = ?"
EVENTS = """
SELECT e.sequence, e.kind, e.at, e.position, e.content_version, e.payload,
    m.content_version, m.content
FROM events AS e LEFT JOIN messages AS m ON m.chat = e.chat AND m.position = e.position
WHERE e.chat = :chat AND e.sequence > :after ORDER BY e.sequence LIMIT :limit
"""
NEWEST_WATCHED = f"SELECT max(txid) FROM events WHERE {EVENTS_WATCHED}"
WATCHED = f"""
SELECT {COLUMNS} FROM events AS e JOIN chats AS c ON c.id = e.chat
WHERE {EVENTS_WATCHED} AND ({PLACE}) > (:txid, :chat, :sequence) AND c.owner_id = :owner_id
ORDER BY {PLACE} LIMIT :limit
"""
MESSAGES = """
SELECT content_version, content FROM messages
WHERE chat = :chat AND position > :after AND removed_revision IS NULL
ORDER BY position LIMIT :limit
"""
# A long message comes without its content, which is then not even read from the disk.
SHORT_MESSAGES = """
SELECT content_version, CASE WHEN length(content) <= :bytes THEN content END FROM messages
WHERE chat = :chat AND position >= :first AND removed_revision IS NULL ORDER BY position
"""
MESSAGES_AS_OF = """
SELECT content_version, content FROM messages
WHERE chat = :chat AND position > :after AND position < :before
    AND (removed_revision IS NULL OR removed_revision > :revision)
ORDER BY position
"""
MESSAGE_BY_ID = """
SELECT content_version, content FROM messages
WHERE chat = :chat AND uuid = :uuid AND removed_revision IS NULL
"""
MESSAGE_AT = """
SELECT content_version, content FROM messages WHERE chat = :chat AND position = :position
"""


def owned(statuses: int, labels: int, *, children: bool = False) -> str:
    """Return the statement for a page of an owner's root chats, or the children of one of them;
    `:status0` and `:label0` are the first of so many statuses and labels.
    """
    # A plus sign keeps the index of root chats out of it.
    family = f"parent_id = :parent_id AND {CHATS_CHILDREN} AND +" if children else ""
    listed = "" if children else f" AND {CHATS_LISTED}"
    wanted = [f"instr(labels, :label{number}) > 0" for number in range(labels)]
    if statuses:
        wanted.append(f"status IN ({', '.join(f':status{n}' for n in range(statuses))})")
    more = "".join(f" AND {it}" for it in wanted)
    return f"""
SELECT {_STATE} FROM chats WHERE {family}owner_id = :owner_id{listed} AND id < :below
    AND (:include_archived OR NOT archived){more}
ORDER BY id DESC LIMIT :limit
"""


# Neither what the owner chose nor the results that are kept: no caller reads them here.
_ASKING = _STATE.replace("config", "CAST('{}' AS BLOB) AS config")
ACTIONS = f"""
SELECT {_ASKING}, due_at FROM chats
WHERE owner_id = :owner_id AND {CHATS_ASKING} AND (due_at, id) > (:due_at, :id)
    AND (:uuid IS NULL OR uuid = :uuid)
ORDER BY due_at, id LIMIT :limit
"""

# --- API keys ------------------------------------------------------------------------------

KEY = rows.KEY.under("key_hash")
INSERT_KEY = _insert("api_keys", *KEY.names, versioned=False)
_KEY = ", ".join(rows.KEY.names)
FIND_KEY = f"SELECT {_KEY} FROM api_keys WHERE key_hash = ? AND revoked_at IS NULL"
LIST_KEYS = f"SELECT {_KEY} FROM api_keys ORDER BY created_at DESC, id DESC"
REVOKE_KEY = "UPDATE api_keys SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL"

# --- secrets -------------------------------------------------------------------------------

FIND_SECRET = "SELECT value FROM secrets WHERE name = ?"  # noqa: S105  a statement
# The first one stands.
INSERT_SECRET = """
INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING
"""  # noqa: S105  a statement

# --- chores --------------------------------------------------------------------------------

WITH_OLD_EVENTS = """
SELECT c.id, c.oldest_sequence FROM chats AS c
JOIN events AS e ON e.chat = c.id AND e.sequence = c.oldest_sequence
WHERE c.id > :after AND e.at < :before ORDER BY c.id LIMIT :limit
"""
FIRST_YOUNG_EVENT = """
SELECT sequence FROM events WHERE chat = :chat AND sequence >= :oldest AND at >= :before
ORDER BY sequence LIMIT 1
"""
DELETE_EVENTS = "DELETE FROM events WHERE chat = :chat AND sequence < :first"
MOVE_OLDEST = "UPDATE chats SET oldest_sequence = :first WHERE id = :chat"
HEAD = "SELECT head_sequence FROM chats WHERE id = ?"
# Rows lie in the order of their insertion; the newest stays, for it numbers the next commit.
DELETE_COMMANDS = """
DELETE FROM commands
WHERE rowid IN (SELECT rowid FROM commands ORDER BY rowid LIMIT :limit)
    AND created_at < :before AND rowid < (SELECT max(rowid) FROM commands)
"""
NEWEST_TXID = """
SELECT max(c.created_at, coalesce(e.txid, 0))
FROM (SELECT * FROM commands ORDER BY rowid DESC LIMIT 1) AS c
LEFT JOIN events AS e ON e.chat = c.chat AND e.sequence = c.sequence
"""
