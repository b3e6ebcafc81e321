"""Every statement of the SQLite store. Written out by hand: they are prepared once and reused."""

from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.store.shared.conditions import (
    CHATS_ASKING,
    CHATS_HELD,
    CHATS_LISTED,
    CHATS_WITH_WORK,
)
from chatd_server.store.shared.rows import STATE_COLUMNS

_STATE = ", ".join(STATE_COLUMNS)

# --- the chat ------------------------------------------------------------------------------

CHAT_ROW = "SELECT id FROM chats WHERE uuid = ?"
LOAD = f"SELECT {_STATE} FROM chats WHERE uuid = ?"
LOAD_ROW = f"SELECT {_STATE} FROM chats WHERE id = ?"
QUEUED = "SELECT uuid, content_version, content FROM queued_messages WHERE chat = ?"
JOURNAL = "SELECT call_id, started_at, content_version, outcome FROM tool_journal WHERE chat = ?"
# Calls whose results are kept.
ANSWERED = "SELECT call_id FROM tool_journal WHERE chat = ? AND outcome IS NOT NULL"

INSERT_CHAT = """
INSERT INTO chats (uuid, owner_id, parent_id, parent_call_id, root_id, status, archived,
    deleted_at, revision, head_sequence, oldest_sequence, next_position, epoch, worker_id,
    lease_expires_at, journal, due_at, created_at, updated_at, content_version, state, config,
    labels, queue)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, 0, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A step of a running turn touches no indexed column, so no index is written either.
UPDATE_STEP = f"""
UPDATE chats SET revision = ?, head_sequence = ?, next_position = ?, updated_at = ?,
    content_version = {CONTENT_VERSION}, state = ?
WHERE id = ? AND revision = ? AND epoch = ? AND worker_id IS NOT NULL
"""
# By the holder, who knows of no open call: then the journal has nothing to compare.
UPDATE_HELD_CHAT = """
UPDATE chats SET owner_id = ?, status = ?, archived = ?, deleted_at = ?, revision = ?,
    head_sequence = ?, next_position = ?, epoch = ?, worker_id = ?, lease_expires_at = ?,
    due_at = ?, updated_at = ?, content_version = ?, state = ?, queue = ?
WHERE id = ? AND revision = ? AND epoch = ?
"""
UPDATE_CHAT = f"{UPDATE_HELD_CHAT} AND journal = ?"
UPDATE_CONFIG = "UPDATE chats SET config = ?, labels = ? WHERE id = ?"

# --- rows beside it ------------------------------------------------------------------------

INSERT_MESSAGE = f"""
INSERT INTO messages (chat, position, uuid, role, sequence, content_version, content)
VALUES (?, ?, ?, ?, ?, {CONTENT_VERSION}, ?)
"""
REMOVE_MESSAGES = """
UPDATE messages SET removed_revision = ?
WHERE chat = ? AND position >= ? AND removed_revision IS NULL
"""
INSERT_EVENT = f"""
INSERT INTO events (chat, txid, sequence, kind, at, position, content_version, payload)
VALUES (?, ?, ?, ?, ?, ?, {CONTENT_VERSION}, ?)
"""
INSERT_QUEUED = """
INSERT INTO queued_messages (chat, uuid, content_version, content) VALUES (?, ?, ?, ?)
"""
DELETE_QUEUED = "DELETE FROM queued_messages WHERE chat = ? AND uuid = ?"
INSERT_COMMAND = """
INSERT INTO commands (key, chat, sequence, created_at, body_hash, response)
VALUES (?, ?, ?, ?, ?, ?)
"""
FIND_COMMAND = "SELECT chat, sequence, body_hash, response FROM commands WHERE key = ?"

# --- journal -------------------------------------------------------------------------------

COUNT_JOURNAL = f"""
UPDATE chats SET journal = journal + 1 WHERE uuid = ? AND epoch = ? AND {CHATS_HELD}
RETURNING id
"""
START_CALL = """
INSERT INTO tool_journal (chat, call_id, started_at, content_version) VALUES (?, ?, ?, ?)
ON CONFLICT (chat, call_id) DO UPDATE SET started_at = excluded.started_at
"""
# The first outcome stands.
RECORD_OUTCOME = """
INSERT INTO tool_journal (chat, call_id, content_version, outcome) VALUES (?, ?, ?, ?)
ON CONFLICT (chat, call_id) DO UPDATE
SET outcome = excluded.outcome, content_version = excluded.content_version
WHERE outcome IS NULL
"""
CLOSE_CALL = "DELETE FROM tool_journal WHERE chat = ? AND call_id = ?"

# --- leases and deadlines ------------------------------------------------------------------

WORK = f"SELECT uuid FROM chats WHERE {CHATS_WITH_WORK} AND due_at <= ? ORDER BY due_at LIMIT ?"
BEAT = """
UPDATE chats SET lease_expires_at = ?
FROM (SELECT json_extract(value, '$[0]') AS uuid, json_extract(value, '$[1]') AS epoch
      FROM json_each(?)) AS held
WHERE chats.uuid = held.uuid AND chats.epoch = held.epoch AND chats.worker_id = ?
RETURNING uuid, epoch, revision, status
"""
EXPIRED_LEASES = f"""
SELECT uuid FROM chats WHERE {CHATS_HELD} AND lease_expires_at <= ?
ORDER BY lease_expires_at LIMIT ?
"""
VOID_LEASES = f"UPDATE chats SET lease_expires_at = min(lease_expires_at, ?) WHERE {CHATS_HELD}"
EXPIRED_ACTIONS = f"""
SELECT uuid FROM chats WHERE {CHATS_ASKING} AND due_at <= ? ORDER BY due_at LIMIT ?
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
WHERE e.chat = ? AND e.sequence > ? ORDER BY e.sequence LIMIT ?
"""
MESSAGES = """
SELECT content_version, content FROM messages
WHERE chat = ? AND position > ? AND removed_revision IS NULL ORDER BY position LIMIT ?
"""
MESSAGES_AS_OF = """
SELECT content_version, content FROM messages
WHERE chat = ? AND position > ? AND position < ?
    AND (removed_revision IS NULL OR removed_revision > ?)
ORDER BY position
"""
MESSAGE_BY_ID = """
SELECT content_version, content FROM messages
WHERE chat = ? AND uuid = ? AND removed_revision IS NULL
"""
MESSAGE_AT = "SELECT content_version, content FROM messages WHERE chat = ? AND position = ?"
OWNED = f"SELECT {_STATE} FROM chats WHERE owner_id = ? AND {CHATS_LISTED}"
# Neither what the owner chose nor the results that are kept: nobody asks for them here.
_ASKING = _STATE.replace("config", "CAST('{}' AS BLOB) AS config")
ACTIONS = f"SELECT {_ASKING}, due_at FROM chats WHERE owner_id = ? AND {CHATS_ASKING}"

# --- API keys ------------------------------------------------------------------------------

INSERT_KEY = """
INSERT INTO api_keys (id, owner_id, name, key_hash, created_at, revoked_at)
VALUES (?, ?, ?, ?, ?, ?)
"""
FIND_KEY = """
SELECT id, owner_id, name, created_at, revoked_at FROM api_keys
WHERE key_hash = ? AND revoked_at IS NULL
"""
LIST_KEYS = """
SELECT id, owner_id, name, created_at, revoked_at FROM api_keys ORDER BY created_at DESC, id DESC
"""
REVOKE_KEY = "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"

# --- secrets -------------------------------------------------------------------------------

FIND_SECRET = "SELECT value FROM secrets WHERE name = ?"  # noqa: S105  a statement
# The first one stands.
INSERT_SECRET = """
INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING
"""  # noqa: S105  a statement

# --- chores --------------------------------------------------------------------------------

WITH_OLD_EVENTS = """
SELECT c.id, c.oldest_sequence FROM chats AS c
JOIN events AS e ON e.chat = c.id AND e.sequence = c.oldest_sequence
WHERE c.id > ? AND e.at < ? ORDER BY c.id LIMIT ?
"""
FIRST_YOUNG_EVENT = """
SELECT sequence FROM events WHERE chat = ? AND sequence >= ? AND at >= ? ORDER BY sequence LIMIT 1
"""
DELETE_EVENTS = "DELETE FROM events WHERE chat = ? AND sequence < ?"
MOVE_OLDEST = "UPDATE chats SET oldest_sequence = ? WHERE id = ?"
HEAD = "SELECT head_sequence FROM chats WHERE id = ?"
# Rows lie in the order of their insertion; the newest stays, for it numbers the next commit.
DELETE_COMMANDS = """
DELETE FROM commands
WHERE rowid IN (SELECT rowid FROM commands ORDER BY rowid LIMIT ?)
    AND created_at < ? AND rowid < (SELECT max(rowid) FROM commands)
"""
NEWEST_TXID = """
SELECT max(c.created_at, coalesce(e.txid, 0))
FROM (SELECT * FROM commands ORDER BY rowid DESC LIMIT 1) AS c
LEFT JOIN events AS e ON e.chat = c.chat AND e.sequence = c.sequence
"""
