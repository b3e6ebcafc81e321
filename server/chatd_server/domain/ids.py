"""Identifiers, and how they are made.

Ids at the edge are UUIDv7 text. Ids never order anything: positions and sequences do.
"""

import hashlib
import secrets
from typing import NewType, TypeAlias
from uuid import UUID

Instant: TypeAlias = int
"""A moment: microseconds since the Unix epoch, UTC. Every time in the domain is one."""

ChatId = NewType("ChatId", str)
MessageId = NewType("MessageId", str)
TurnId = NewType("TurnId", str)
AttemptId = NewType("AttemptId", str)
ToolCallId = NewType("ToolCallId", str)
WorkerId = NewType("WorkerId", str)
OwnerId = NewType("OwnerId", str)

MICROSECONDS = 1_000_000
"""Microseconds of one second."""


def new_uuid(now: Instant) -> str:
    """Return a UUIDv7 with random bits."""
    return _uuid7(now, secrets.randbits(74))


def derived_uuid(now: Instant, *seed: str | int) -> str:
    """Return the UUIDv7 that belongs to a moment and a seed: the same for the same arguments.

    Transitions are pure, so the ids that they hand out are derived and not drawn.
    """
    text = "\x1f".join(map(str, seed)).encode()
    digest = hashlib.blake2b(text, digest_size=10).digest()
    return _uuid7(now, int.from_bytes(digest, "big") & ((1 << 74) - 1))


def new_tool_call_id() -> ToolCallId:
    """Return an id for a tool call, unique in any chat."""
    return ToolCallId("call_" + secrets.token_hex(12))


def is_uuid(text: str) -> bool:
    """Say whether a text is a UUID in its canonical form."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _uuid7(now: Instant, bits: int) -> str:
    value = (now // 1000 & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | (bits & ((1 << 62) - 1))
    # Cut by hand: one id is made in every transition, and uuid.UUID takes twice the time.
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
