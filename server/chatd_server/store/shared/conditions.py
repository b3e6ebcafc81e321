"""Conditions of the partial indexes. A query repeats one word for word, or misses the index."""

from chatd_server.domain.event import WATCHED
from chatd_server.store.shared.codec import EVENT_KINDS

CHATS_WITH_WORK = "worker_id IS NULL AND status IN ('pending', 'interrupting')"
"""Index chats_work: chats that a worker may take."""
CHATS_HELD = "worker_id IS NOT NULL"
"""Index chats_leases: chats that a worker holds."""
CHATS_ASKING = "status = 'requires_action'"
"""Indexes chats_deadlines and chats_actions: chats that wait for the client."""
CHATS_LISTED = "deleted_at IS NULL AND parent_id IS NULL"
"""Index chats_owned: root chats that their owner sees."""
CHATS_CHILDREN = "deleted_at IS NULL AND parent_id IS NOT NULL"
"""Index chats_children: children that their owner sees."""
EVENTS_WATCHED = f"kind IN ({', '.join(str(EVENT_KINDS[kind]) for kind in WATCHED)})"
"""Index events_watched: events that watchers of many chats are sent."""
