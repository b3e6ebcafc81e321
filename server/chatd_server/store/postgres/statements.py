"""The statements of the PostgreSQL store that are always the same. Each is prepared once for each
connection. What one transition writes is composed in `writing`, what a sweep writes in `sweeps`.
"""

from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.store.postgres.pieces import PIECE_BYTES
from chatd_server.store.postgres.query import Query, unnest
from chatd_server.store.postgres.time import NOW
from chatd_server.store.shared.conditions import (
    CHATS_ASKING,
    CHATS_CHILDREN,
    CHATS_HELD,
    CHATS_LISTED,
    CHATS_WITH_WORK,
    EVENTS_WATCHED,
)
from chatd_server.store.shared.replay import Record
from chatd_server.store.shared.rows import EVENT, KEY, MESSAGE, OUTCOME, STATE_COLUMNS
from chatd_server.store.shared.watching import COLUMNS, PLACE

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
_NOW_ONCE = f"(SELECT {NOW})"

# --- watchers ------------------------------------------------------------------------------

# Every transaction below this one has ended.
_FIRST_OPEN = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
FIRST_OPEN = Query(f"SELECT {_FIRST_OPEN}")
_WATCHED = f"""events AS e JOIN chats AS c ON c.id = e.chat
    WHERE {EVENTS_WATCHED} AND c.owner_id = :owner_id"""
# In one statement, as of one snapshot: an event below the first open transaction is never added
# later.
WATCHED = Query(f"""
SELECT open.first_open, held.held_back, found.* FROM (
    SELECT {_FIRST_OPEN} AS first_open
) AS open CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM {_WATCHED} AND e.txid >= open.first_open) AS held_back
) AS held LEFT JOIN LATERAL (
    SELECT {COLUMNS} FROM {_WATCHED} AND e.txid < open.first_open
        AND ({PLACE}) > (:txid, :chat, :sequence)
    ORDER BY {PLACE} LIMIT :limit
) AS found ON true
ORDER BY txid, chat, sequence
""")
# A dump that was restored in another cluster has labels of transactions that are still to come.
HAS_FUTURE_LABELS = Query(f"""
SELECT max(txid) >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM events
WHERE {EVENTS_WATCHED}
""")
FORGET_LABELS = Query("UPDATE events SET txid = 0 WHERE txid > pg_current_xact_id()::text::bigint")

# --- one chat ------------------------------------------------------------------------------

LOAD = Query(f"SELECT {_STATE}, {_SIDES} FROM chats AS c WHERE c.uuid = :uuid")
QUEUED = Query("""
SELECT uuid, content_version, content FROM queued_messages
WHERE chat = :chat AND uuid = ANY(:uuids::text[])
""")
OUTCOMES = Query("""
SELECT call_id, content_version, outcome FROM tool_journal
WHERE chat = :chat AND call_id = ANY(:call_ids::text[])
""")
CONFIG = Query("SELECT content_version, config FROM chats WHERE id = :chat")
# What a transition writes beyond its first piece, in the same transaction.
INSERT_MESSAGES = Query(f"""
INSERT INTO messages (chat, {", ".join(MESSAGE.names)}, content_version)
SELECT :chat::bigint, m.*, {CONTENT_VERSION} FROM {unnest("m", MESSAGE)}
""")
FIRST_OUTCOME_STANDS = """ON CONFLICT (chat, call_id) DO UPDATE
SET outcome = excluded.outcome, content_version = excluded.content_version
WHERE j.outcome IS NULL"""
INSERT_EVENTS = Query(f"""
INSERT INTO events (chat, {", ".join(EVENT.names)}, content_version, txid)
SELECT :chat::bigint, e.*, {CONTENT_VERSION}, pg_current_xact_id()::text::bigint
FROM {unnest("e", EVENT)}
""")
INSERT_OUTCOMES = Query(f"""
INSERT INTO tool_journal AS j (chat, {", ".join(OUTCOME.names)}, content_version)
SELECT :chat::bigint, o.*, {CONTENT_VERSION} FROM {unnest("o", OUTCOME)}
{FIRST_OUTCOME_STANDS}
""")
_RECORD = ", ".join(f"k.{name} AS command_{name}" for name in ("chat", *Record._fields))
# All that a decision needs, as of one moment: the time, the command's record, the chat.
LOAD_FOR = Query(f"""
SELECT {NOW} AS now, {_RECORD}, {_STATE}, {_SIDES}
FROM (SELECT 1) AS always
LEFT JOIN chats AS c ON c.uuid = :uuid
LEFT JOIN commands AS k ON k.key = :key
""")
# A statement of its own: what is loaded after it is as of a moment after the lock was taken.
LOCK = Query("SELECT id FROM chats WHERE uuid = :uuid FOR NO KEY UPDATE")
PARENT = Query("SELECT parent_id FROM chats WHERE uuid = :uuid")
# With the root locked, no child is made until the transaction ends.
LOCK_CHILDREN = Query(f"""
SELECT id, uuid FROM chats WHERE parent_id = :parent_id AND {CHATS_CHILDREN}
ORDER BY id FOR NO KEY UPDATE
""")

# --- journal -------------------------------------------------------------------------------

FINISH_CALL = Query(f"""
WITH written AS (
    UPDATE chats SET journal = journal + 1
    WHERE uuid = :uuid AND epoch = :epoch AND {CHATS_HELD}
    RETURNING id
), journal AS (
    INSERT INTO tool_journal AS j (chat, call_id, content_version, outcome)
    SELECT w.id, :call_id::text, {CONTENT_VERSION}, :outcome::bytea FROM written AS w
    {FIRST_OUTCOME_STANDS}
)
SELECT id FROM written
""")

# --- many chats ----------------------------------------------------------------------------


def _sweep(condition: str, due: str) -> Query:
    """Lock chats that are due. A row that is being written is passed over: SKIP LOCKED never
    waits, so it never deadlocks. `passed_over` is when the newest of these became due.
    """
    return Query(f"""
WITH free AS MATERIALIZED (
    SELECT id, uuid, {due} AS due FROM chats WHERE {condition} AND {due} <= {_NOW_ONCE}
    ORDER BY {due} LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
)
SELECT {NOW} AS now, ARRAY(SELECT ROW(id, uuid, due) FROM free ORDER BY due) AS free,
    CASE WHEN (SELECT count(*) FROM free) < :limit THEN (
        SELECT max({due}) FROM chats AS c WHERE {condition} AND {due} <= {_NOW_ONCE}
            AND NOT EXISTS (SELECT FROM free AS f WHERE f.id = c.id)) END AS passed_over
""")


WORK = _sweep(CHATS_WITH_WORK, "due_at")
EXPIRED_LEASES = _sweep(CHATS_HELD, "lease_expires_at")
EXPIRED_ACTIONS = _sweep(CHATS_ASKING, "due_at")
LOAD_MANY = Query(f"""
SELECT {NOW} AS now, {_STATE}, {_SIDES} FROM chats AS c WHERE c.id = ANY(:ids::bigint[])
""")
# Rows are locked in the order of their ids, so that two statements of this kind cannot deadlock.
BEAT = Query(f"""
WITH held AS MATERIALIZED (
    SELECT c.id FROM chats AS c
    JOIN unnest(:uuids::text[], :epochs::bigint[]) AS h(uuid, epoch) ON c.uuid = h.uuid
    WHERE c.epoch = h.epoch AND c.worker_id = :worker_id
    ORDER BY c.id FOR NO KEY UPDATE OF c
), present AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE chats AS c SET lease_expires_at = p.now + :lease_micros
FROM held AS h, present AS p WHERE c.id = h.id
RETURNING c.uuid, c.epoch, c.revision, c.status, p.now
""")
# It waits for rows that are being written: a lease that it leaves out would last to its end.
VOID_LEASES = Query(f"""
WITH dead AS MATERIALIZED (
    SELECT id FROM chats WHERE {CHATS_HELD} AND worker_id = ANY(:worker_ids::text[])
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE chats AS c SET lease_expires_at = least(c.lease_expires_at, {_NOW_ONCE})
FROM dead AS d WHERE c.id = d.id
""")
RECORDED = Query("SELECT EXISTS (SELECT FROM commands WHERE key = :key)")
AWAIT_WRITERS = Query(
    "SELECT id FROM chats WHERE id = ANY(:ids::bigint[]) ORDER BY id FOR NO KEY UPDATE"
)
NEXT_DUE = Query(f"""
SELECT least(
    (SELECT min(due_at) FROM chats WHERE {CHATS_WITH_WORK} AND due_at > {_NOW_ONCE}),
    (SELECT min(due_at) FROM chats WHERE {CHATS_ASKING}),
    (SELECT min(lease_expires_at) FROM chats WHERE {CHATS_HELD}))
""")
PRESENT = Query(f"SELECT {NOW}")

# --- reads ---------------------------------------------------------------------------------

HEADS = Query("SELECT id, oldest_sequence, head_sequence FROM chats WHERE uuid = :uuid")
# `before` is the size of all rows before this one: a page ends by bytes without sending more.
EVENTS = Query("""
SELECT sequence, kind, at, position, content_version, payload, message_version, content
FROM (
    SELECT *, coalesce(sum(size) OVER (
        ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT e.sequence, e.kind, e.at, e.position, e.content_version, e.payload,
            m.content_version AS message_version, m.content,
            coalesce(octet_length(e.payload), 0) + coalesce(octet_length(m.content), 0) AS size
        FROM events AS e LEFT JOIN messages AS m ON m.chat = e.chat AND m.position = e.position
        WHERE e.chat = :chat AND e.sequence > :after ORDER BY e.sequence LIMIT :limit
    ) AS found
) AS measured
WHERE before < :bytes_max ORDER BY sequence
""")
_PAGE = """
SELECT content_version, content, total
FROM (
    SELECT *, count(*) OVER () AS total, coalesce(sum(octet_length(content)) OVER (
        ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT position, content_version, content FROM messages
        WHERE chat = :chat AND position > :after AND {} ORDER BY position LIMIT :limit
    ) AS found
) AS measured
WHERE before < :bytes_max ORDER BY position
"""
MESSAGES = Query(_PAGE.format("removed_revision IS NULL"))
MESSAGES_AS_OF = Query(
    _PAGE.format(
        "position < :before AND (removed_revision IS NULL OR removed_revision > :revision)"
    )
)
# The contexts of several chats, each as of the revision that its holder knows.
CONTEXTS = Query("""
SELECT m.chat, m.content_version, m.content
FROM unnest(:ids::bigint[], :first_positions::bigint[], :next_positions::bigint[],
    :revisions::bigint[]) AS c(id, first_position, next_position, revision)
JOIN messages AS m ON m.chat = c.id AND m.position >= c.first_position
    AND m.position < c.next_position
    AND (m.removed_revision IS NULL OR m.removed_revision > c.revision)
ORDER BY m.chat, m.position
""")
MESSAGE_BY_ID = Query("""
SELECT content_version, content FROM messages
WHERE chat = :chat AND uuid = :uuid AND removed_revision IS NULL
""")
MESSAGE_AT = Query("""
SELECT content_version, content FROM messages WHERE chat = :chat AND position = :position
""")
# `total` counts the chats that were found, `before` the bytes of all before this one.
_CHATS_PAGE = """
SELECT * FROM (
    SELECT *, count(*) OVER () AS total, coalesce(sum({size}) OVER (
        ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM ({found} ORDER BY {order} LIMIT :limit) AS found
) AS measured
WHERE before < :bytes_max ORDER BY {order}
"""
_OWNED = """
        SELECT {state} FROM chats AS c
        WHERE owner_id = :owner_id AND {listed} AND id < :below
            AND (NOT archived OR :include_archived)
            AND (status = ANY(:statuses::text[]) OR cardinality(:statuses::text[]) = 0)
            AND NOT EXISTS (SELECT FROM unnest(:labels::bytea[]) AS wanted
                WHERE position(wanted IN labels) = 0)"""
_OWNED_SIZE = "octet_length(state) + octet_length(config)"
OWNED = Query(
    _CHATS_PAGE.format(
        found=_OWNED.format(state=_STATE, listed=CHATS_LISTED), size=_OWNED_SIZE, order="id DESC"
    )
)
CHILDREN = Query(
    _CHATS_PAGE.format(
        found=_OWNED.format(state=_STATE, listed=f"{CHATS_CHILDREN} AND parent_id = :parent_id"),
        size=_OWNED_SIZE,
        order="id DESC",
    )
)
# Neither what the owner chose nor the results that are kept: no caller reads them here.
_ASKING = _STATE.replace("c.config", "'{}'::bytea AS config")
ACTIONS = Query(
    _CHATS_PAGE.format(
        found=f"""
        SELECT {_ASKING}, due_at, ARRAY(
            SELECT j.call_id FROM tool_journal AS j
            WHERE j.chat = c.id AND j.outcome IS NOT NULL) AS answered
        FROM chats AS c
        WHERE owner_id = :owner_id AND {CHATS_ASKING} AND (due_at, id) > (:due_at, :id)
            AND (uuid = :uuid OR :uuid IS NULL)""",
        size="octet_length(state)",
        order="due_at, id",
    )
)

# --- API keys ------------------------------------------------------------------------------

_KEY = ", ".join(KEY.names)
INSERT_KEY = f"""
INSERT INTO api_keys (key_hash, {_KEY})
VALUES ({", ".join(f"${number}" for number in range(1, len(KEY.names) + 2))})
"""
FIND_KEY = Query(f"SELECT {_KEY} FROM api_keys WHERE key_hash = :key_hash AND revoked_at IS NULL")
LIST_KEYS = Query(f"SELECT {_KEY} FROM api_keys ORDER BY created_at DESC, id DESC")
REVOKE_KEY = Query("""
UPDATE api_keys SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL RETURNING id
""")

# --- secrets -------------------------------------------------------------------------------

FIND_SECRET = Query("SELECT value FROM secrets WHERE name = :name")
# The first one stands.
INSERT_SECRET = Query("""
INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING
""")

# --- chores --------------------------------------------------------------------------------

# A chat that is being written is left to the next time.
PRUNE_EVENTS = Query("""
WITH old AS MATERIALIZED (
    SELECT c.id, c.oldest_sequence FROM chats AS c
    JOIN events AS e ON e.chat = c.id AND e.sequence = c.oldest_sequence
    WHERE c.id > :after AND e.at < :before ORDER BY c.id LIMIT :limit
    FOR NO KEY UPDATE OF c SKIP LOCKED
), young AS MATERIALIZED (
    SELECT o.id, coalesce((
        SELECT e.sequence FROM events AS e
        WHERE e.chat = o.id AND e.sequence >= o.oldest_sequence AND e.at >= :before
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
""")
PRUNE_COMMANDS = Query("""
WITH old AS MATERIALIZED (
    SELECT key FROM commands WHERE created_at < :before LIMIT :limit FOR UPDATE SKIP LOCKED
), dropped AS (DELETE FROM commands AS c USING old AS o WHERE c.key = o.key RETURNING 1)
SELECT count(*) FROM dropped
""")
