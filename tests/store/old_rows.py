"""Rows as earlier servers wrote them, by the revision of the schema that they had.

They are data: a migration adds rows of its own revision, and never changes earlier ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from chatd_server.domain.ids import ChatId

Rows: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""For each table its rows."""

AT = 1_767_225_600_000_000
CHAT = ChatId("019b76da-a800-7c21-b882-f61a188d525b")
KEY_HASH = b"hash"
SECRET = bytes(range(32))

_QUEUED = (
    b'{"id":"019b76da-a800-7dec-a6f2-293a8469dd52","parts":[{"kind":"text","text":"later"}],'
    b'"created_at":1767225600000000,"options":{}}'
)
_CALLS = (
    b'[{"id":"a","name":"ls","executor":"server","created_at":1767225600000000,"arguments":"{}"},'
    b'{"id":"b","name":"ls","executor":"server","created_at":1767225600000000,"arguments":"{}"}]'
)
_TURN = b'{"id":"019b76da-a800-799e-a9ae-0f7f9d1bb735","first_position":1,"options":{},"steps":1}'

_FIRST: Rows = {
    "chats": [
        {
            "uuid": CHAT,
            "owner_id": "ann",
            "parent_id": None,
            "parent_call_id": None,
            "root_id": CHAT,
            "status": "pending",
            "archived": False,
            "deleted_at": None,
            "revision": 8,
            "head_sequence": 5,
            "oldest_sequence": 1,
            "next_position": 3,
            "epoch": 1,
            "worker_id": None,
            "lease_expires_at": None,
            "journal": 1,
            "due_at": AT,
            "created_at": AT,
            "updated_at": AT,
            "content_version": 1,
            "state": b'{"turn":' + _TURN + b',"calls":' + _CALLS + b',"usage_total":{}}',
            "config": b'{"title":"old","model":"sandbox/echo","labels":{"team":"a"}}',
            "labels": b'{"team":"a"}',
            "queue": b'["019b76da-a800-7dec-a6f2-293a8469dd52"]',
        }
    ],
    "queued_messages": [
        {
            "chat": 1,
            "uuid": "019b76da-a800-7dec-a6f2-293a8469dd52",
            "content_version": 1,
            "content": _QUEUED,
        }
    ],
    "messages": [
        {
            "chat": 1,
            "position": 1,
            "uuid": "019b76da-a800-704d-8a64-fa88cf49dd52",
            "role": "user",
            "sequence": 2,
            "removed_revision": None,
            "content_version": 1,
            "content": b'{"id":"019b76da-a800-704d-8a64-fa88cf49dd52","position":1,"role":"user",'
            b'"parts":[{"kind":"text","text":"hello"}],"created_at":1767225600000000,"sequence":2,'
            b'"turn_id":"019b76da-a800-799e-a9ae-0f7f9d1bb735"}',
        },
        {
            "chat": 1,
            "position": 2,
            "uuid": "019b76da-a800-7c05-86aa-98ece3ad9118",
            "role": "assistant",
            "sequence": 4,
            "removed_revision": None,
            "content_version": 1,
            "content": b'{"id":"019b76da-a800-7c05-86aa-98ece3ad9118","position":2,'
            b'"role":"assistant","parts":[{"kind":"text","text":"answer"},{"kind":"tool_call",'
            b'"id":"a","name":"ls","arguments":"{}","executor":"server",'
            b'"created_at":1767225600000000},{"kind":"tool_call","id":"b","name":"ls",'
            b'"arguments":"{}","executor":"server","created_at":1767225600000000}],'
            b'"turn_id":"019b76da-a800-799e-a9ae-0f7f9d1bb735","created_at":1767225600000000,'
            b'"sequence":4,"attempt_id":"019b76da-a800-757f-b063-ed5082b4e121",'
            b'"model":"sandbox/echo","finish_reason":"tool_calls","usage":{}}',
        },
    ],
    "events": [
        {
            "chat": 1,
            "sequence": sequence,
            "kind": kind,
            "at": AT,
            "position": position,
            "content_version": 1,
            "payload": payload,
            "txid": sequence,
        }
        for sequence, kind, position, payload in (
            (1, 9, None, b'{"kind":"chat_updated","title":"old"}'),
            (2, 1, 1, None),
            (3, 2, None, b'{"kind":"status_changed","status":"pending","turn_id":"t"}'),
            (4, 1, 2, None),
            (5, 3, None, b'{"kind":"queue_changed","entries":[{"id":"q","preview":"later"}]}'),
        )
    ],
    "commands": [
        {
            "key": bytes.fromhex("846c3ad5db1540393c2537651ebe6a0b"),
            "chat": 1,
            "sequence": 5,
            "created_at": AT,
            "body_hash": b"body",
            "response": b'{"version":1,"state":{"id":"019b76da-a800-7c21-b882-f61a188d525b",'
            b'"owner_id":"ann","root_id":"019b76da-a800-7c21-b882-f61a188d525b",'
            b'"created_at":1767225600000000,"updated_at":1767225600000000,"revision":8,'
            b'"head_sequence":5,"next_position":3,"status":"pending","epoch":1,"journal":1,'
            b'"turn":' + _TURN + b',"calls":' + _CALLS + b',"queue":[{"id":'
            b'"019b76da-a800-7dec-a6f2-293a8469dd52","parts":[],"created_at":0}],'
            b'"usage_total":{},"config":{}},"reply":{"queued":' + _QUEUED + b"}}",
        }
    ],
    "tool_journal": [
        {
            "chat": 1,
            "call_id": "a",
            "started_at": AT,
            "content_version": 1,
            "outcome": b'{"kind":"tool_result","call_id":"a","name":"ls","output":"seen",'
            b'"executor":"server","created_at":1767225600000000}',
        }
    ],
    "api_keys": [
        {
            "id": "k1",
            "owner_id": "ann",
            "name": "root",
            "key_hash": KEY_HASH,
            "created_at": AT,
            "revoked_at": None,
        }
    ],
}

_ADDED: Mapping[str, Rows] = {
    "0001": _FIRST,
    "0002": {"secrets": [{"name": "pages", "value": SECRET}]},
    "0003": {},
    "0004": {},
}
"""For each revision the tables whose rows it has other than the revision before."""


def rows_of(revision: str) -> Rows:
    """Return rows of a database of this revision, for every table."""
    rows: dict[str, Any] = {}
    for it, added in _ADDED.items():
        rows |= added if it <= revision else {}
    return rows
