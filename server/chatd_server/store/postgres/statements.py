"""The statements of the PostgreSQL store that are always the same. Each is prepared once for each
connection. What one transition writes is put together in `writing`.
"""

from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.store.postgres.pieces import PIECE_BYTES
from chatd_server.store.postgres.time import NOW
from chatd_server.store.shared.conditions import (
    CHATS_ASKING,
    CHATS_HELD,
    CHATS_LISTED,
    CHATS_WITH_WORK,
)
from chatd_server.store.shared.rows import STATE_COLUMNS

_STATE = ", ".join(f"c.{name}" for name in STATE_COLUMNS)
# Beyond one piece the contents are left out and only their sizes told: an array of them is one
# value, which the driver decodes at once.
_SIDES = f"""
    CASE WHEN c.queue IS NOT NULL THEN ARRAY(
        SELECT ROW(q.uuid, q.content_version, octet_length(q.content), CASE
            WHEN sum(octet_length(q.content)) OVER (ORDER BY q.uuid) <= {PIECE_BYTES}
            THEN q.content END)
        FROM queued_messages AS q WHERE q.chat = c.id) END AS queued,
    ARRAY(
        SELECT ROW(j.call_id, j.started_at, j.content_version, octet_length(j.outcome), CASE
            WHEN sum(octet_length(j.outcome)) OVER (ORDER BY j.call_id) <= {PIECE_BYTES}
            THEN j.outcome END)
        FROM tool_journal AS j WHERE j.chat = c.id) AS journal"""
# A volatile function would keep an index from being used; a sub-select is one value.
_NOW_ONCE = "(SELECT " + NOW + ")"

# --- one chat ------------------------------------------------------------------------------

LOAD = f"SELECT {_STATE}, {_SIDES} FROM chats AS c WHERE c.uuid = $1"
QUEUED = """
SELECT uuid, content_version, content FROM queued_messages
WHERE chat = $1 AND uuid = ANY($2::text[])
"""
OUTCOMES = """
SELECT call_id, content_version, outcome FROM tool_journal
WHERE chat = $1 AND call_id = ANY($2::text[])
"""
CONFIG = "SELECT content_version, config FROM chats WHERE id = $1"
# What a transition writes beyond its first piece, in the same transaction.
INSERT_MESSAGES = f"""
INSERT INTO messages (chat, position, uuid, role, sequence, content, content_version)
SELECT $1::bigint, m.*, {CONTENT_VERSION} FROM unnest($2::bigint[], $3::text[], $4::text[],
    $5::bigint[], $6::bytea[]) AS m
"""
# The first outcome stands.
INSERT_OUTCOMES = """
INSERT INTO tool_journal AS j (chat, call_id, content_version, outcome)
SELECT $1::bigint, o.* FROM unnest($2::text[], $3::smallint[], $4::bytea[]) AS o
ON CONFLICT (chat, call_id) DO UPDATE
SET outcome = excluded.outcome, content_version = excluded.content_version
WHERE j.outcome IS NULL
"""
# All that a decision needs, as of one moment: the time, the command's record, the chat.
LOAD_FOR = f"""
SELECT {NOW.format("$3")} AS now, k.key IS NOT NULL AS recorded,
    k.chat AS command_chat, k.sequence AS command_sequence, k.created_at AS command_at,
    k.body_hash, k.response, {_STATE}, {_SIDES}
FROM (SELECT 1) AS always
LEFT JOIN chats AS c ON c.uuid = $1
LEFT JOIN commands AS k ON k.key = $2
"""
# A statement of its own: what is loaded after it is as of a moment after the lock was got.
LOCK = "SELECT id FROM chats WHERE uuid = $1 FOR NO KEY UPDATE"
# A root that is being archived waits for the child that is being made, or the other way round.
LOCK_ROOT = "SELECT status, archived, deleted_at FROM chats WHERE uuid = $1 FOR SHARE"

# --- journal -------------------------------------------------------------------------------

# The first outcome stands.
FINISH_CALL = f"""
WITH written AS (
    UPDATE chats SET journal = journal + 1 WHERE uuid = $1 AND epoch = $2 AND {CHATS_HELD}
    RETURNING id
), journal AS (
    INSERT INTO tool_journal AS j (chat, call_id, content_version, outcome)
    SELECT w.id, $3::text, $4::smallint, $5::bytea FROM written AS w
    ON CONFLICT (chat, call_id) DO UPDATE
    SET outcome = excluded.outcome, content_version = excluded.content_version
    WHERE j.outcome IS NULL
)
SELECT id FROM written
"""

# --- many chats ----------------------------------------------------------------------------


def _sweep(condition: str, due: str) -> str:
    """Lock chats that are due. A row that somebody writes now is passed over: SKIP LOCKED never
    waits, so it never deadlocks; but it is told how long the newest of these has been due.
    """
    now = _NOW_ONCE.format("$1")
    return f"""
WITH free AS MATERIALIZED (
    SELECT id, uuid, {due} AS due FROM chats WHERE {condition} AND {due} <= {now}
    ORDER BY {due} LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
)
SELECT {NOW.format("$1")} AS now, ARRAY(SELECT ROW(id, uuid, due) FROM free ORDER BY due) AS free,
    CASE WHEN (SELECT count(*) FROM free) < $2 THEN (
        SELECT max({due}) FROM chats AS c WHERE {condition} AND {due} <= {now}
            AND NOT EXISTS (SELECT FROM free AS f WHERE f.id = c.id)) END AS passed_over
"""


WORK = _sweep(CHATS_WITH_WORK, "due_at")
EXPIRED_LEASES = _sweep(CHATS_HELD, "lease_expires_at")
EXPIRED_ACTIONS = _sweep(CHATS_ASKING, "due_at")
LOAD_MANY = f"""
SELECT {NOW.format("$2")} AS now, {_STATE}, {_SIDES} FROM chats AS c WHERE c.id = ANY($1::bigint[])
"""
# Rows are locked in the order of their ids, so that two statements of this kind cannot deadlock.
BEAT = f"""
WITH held AS MATERIALIZED (
    SELECT c.id FROM chats AS c
    JOIN unnest($1::text[], $2::bigint[]) AS h(uuid, epoch) ON c.uuid = h.uuid
    WHERE c.epoch = h.epoch AND c.worker_id = $3
    ORDER BY c.id FOR NO KEY UPDATE OF c
), present AS MATERIALIZED (SELECT {NOW.format("$5")} AS now)
UPDATE chats AS c SET lease_expires_at = p.now + $4
FROM held AS h, present AS p WHERE c.id = h.id
RETURNING c.uuid, c.epoch, c.revision, c.status, p.now
"""
# It waits for rows that are being written: a lease that is left out would stand to its end.
VOID_LEASES = f"""
WITH dead AS MATERIALIZED (
    SELECT id FROM chats WHERE {CHATS_HELD} AND worker_id = ANY($1::text[])
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE chats AS c SET lease_expires_at = least(c.lease_expires_at, {_NOW_ONCE.format("$2")})
FROM dead AS d WHERE c.id = d.id
"""
RECORDED = "SELECT EXISTS (SELECT FROM commands WHERE key = $1)"
AWAIT_WRITERS = "SELECT id FROM chats WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"
NEXT_DUE = f"""
SELECT least(
    (SELECT min(due_at) FROM chats WHERE {CHATS_WITH_WORK} AND due_at > {_NOW_ONCE.format("$1")}),
    (SELECT min(due_at) FROM chats WHERE {CHATS_ASKING}),
    (SELECT min(lease_expires_at) FROM chats WHERE {CHATS_HELD}))
"""
PRESENT = f"SELECT {NOW.format('$1')}"

# --- reads ---------------------------------------------------------------------------------

HEADS = "SELECT id, oldest_sequence, head_sequence FROM chats WHERE uuid = $1"
# `before` is the size of all rows before this one: a page ends by bytes without sending more.
EVENTS = """
SELECT sequence, kind, at, position, content_version, payload, message_version, content
FROM (
    SELECT *, coalesce(sum(size) OVER (
        ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT e.sequence, e.kind, e.at, e.position, e.content_version, e.payload,
            m.content_version AS message_version, m.content,
            coalesce(octet_length(e.payload), 0) + coalesce(octet_length(m.content), 0) AS size
        FROM events AS e LEFT JOIN messages AS m ON m.chat = e.chat AND m.position = e.position
        WHERE e.chat = $1 AND e.sequence > $2 ORDER BY e.sequence LIMIT $3
    ) AS found
) AS measured
WHERE before < $4 ORDER BY sequence
"""
_PAGE = """
SELECT content_version, content, total
FROM (
    SELECT *, count(*) OVER () AS total, coalesce(sum(octet_length(content)) OVER (
        ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT position, content_version, content FROM messages
        WHERE chat = $1 AND position > $2 AND {} ORDER BY position LIMIT $3
    ) AS found
) AS measured
WHERE before < $4 ORDER BY position
"""
MESSAGES = _PAGE.format("removed_revision IS NULL")
MESSAGES_AS_OF = _PAGE.format(
    "position < $5 AND (removed_revision IS NULL OR removed_revision > $6)"
)
# The contexts of several chats, each as of the revision that its holder knows.
CONTEXTS = """
SELECT m.chat, m.content_version, m.content
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS c(id, first_position, next_position, revision)
JOIN messages AS m ON m.chat = c.id AND m.position >= c.first_position
    AND m.position < c.next_position
    AND (m.removed_revision IS NULL OR m.removed_revision > c.revision)
ORDER BY m.chat, m.position
"""
MESSAGE_BY_ID = """
SELECT content_version, content FROM messages
WHERE chat = $1 AND uuid = $2 AND removed_revision IS NULL
"""
MESSAGE_AT = "SELECT content_version, content FROM messages WHERE chat = $1 AND position = $2"
# `total` counts the chats that were found, `before` the bytes of all before this one.
_CHATS_PAGE = """
SELECT * FROM (
    SELECT *, count(*) OVER () AS total, coalesce(sum({size}) OVER (
        ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM ({found} ORDER BY {order} LIMIT {limit}) AS found
) AS measured
WHERE before < {bytes_max} ORDER BY {order}
"""
OWNED = _CHATS_PAGE.format(
    found=f"""
        SELECT {_STATE} FROM chats AS c
        WHERE owner_id = $1 AND {CHATS_LISTED} AND id < $2 AND (NOT archived OR $3)
            AND (status = ANY($4::text[]) OR cardinality($4::text[]) = 0)
            AND NOT EXISTS (
                SELECT FROM unnest($5::bytea[]) AS wanted WHERE position(wanted IN labels) = 0)""",
    size="octet_length(state) + octet_length(config)",
    order="id DESC",
    limit="$6",
    bytes_max="$7",
)
# Neither what the owner chose nor the results that are kept: nobody asks for them here.
_ASKING = _STATE.replace("c.config", "'{}'::bytea AS config")
ACTIONS = _CHATS_PAGE.format(
    found=f"""
        SELECT {_ASKING}, due_at, ARRAY(
            SELECT j.call_id FROM tool_journal AS j
            WHERE j.chat = c.id AND j.outcome IS NOT NULL) AS answered
        FROM chats AS c
        WHERE owner_id = $1 AND {CHATS_ASKING} AND (due_at, id) > ($2, $3)
            AND (uuid = $4 OR $4 IS NULL)""",
    size="octet_length(state)",
    order="due_at, id",
    limit="$5",
    bytes_max="$6",
)

# --- API keys ------------------------------------------------------------------------------

INSERT_KEY = """
INSERT INTO api_keys (id, owner_id, name, key_hash, created_at, revoked_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
FIND_KEY = """
SELECT id, owner_id, name, created_at, revoked_at FROM api_keys
WHERE key_hash = $1 AND revoked_at IS NULL
"""
LIST_KEYS = """
SELECT id, owner_id, name, created_at, revoked_at FROM api_keys ORDER BY created_at DESC, id DESC
"""
REVOKE_KEY = """
UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id
"""

# --- secrets -------------------------------------------------------------------------------

FIND_SECRET = "SELECT value FROM secrets WHERE name = $1"  # noqa: S105  a statement
# The first one stands.
INSERT_SECRET = """
INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING
"""  # noqa: S105  a statement

# --- chores --------------------------------------------------------------------------------

# A chat that is being written is left to the next time.
PRUNE_EVENTS = """
WITH old AS MATERIALIZED (
    SELECT c.id, c.oldest_sequence FROM chats AS c
    JOIN events AS e ON e.chat = c.id AND e.sequence = c.oldest_sequence
    WHERE c.id > $1 AND e.at < $2 ORDER BY c.id LIMIT $3
    FOR NO KEY UPDATE OF c SKIP LOCKED
), young AS MATERIALIZED (
    SELECT o.id, coalesce((
        SELECT e.sequence FROM events AS e
        WHERE e.chat = o.id AND e.sequence >= o.oldest_sequence AND e.at >= $2
        ORDER BY e.sequence LIMIT 1), (
        SELECT max(e.sequence) + 1 FROM events AS e WHERE e.chat = o.id)) AS first
    FROM old AS o
), moved AS (
    UPDATE chats AS c SET oldest_sequence = y.first FROM young AS y WHERE c.id = y.id
), dropped AS (
    DELETE FROM events AS e USING young AS y WHERE e.chat = y.id AND e.sequence < y.first
    RETURNING 1
)
SELECT (SELECT count(*) FROM dropped), (SELECT count(*) FROM old), (SELECT max(id) FROM old)
"""
PRUNE_COMMANDS = """
WITH old AS MATERIALIZED (
    SELECT key FROM commands WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
), dropped AS (DELETE FROM commands AS c USING old AS o WHERE c.key = o.key RETURNING 1)
SELECT count(*) FROM dropped
"""
