"""Identifiers, and how they are made.

Ids at the edge are UUIDv7 text. Ids never order anything: positions and sequences do.
"""

import hashlib
import random
from functools import lru_cache
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

# Seeded once by the system. Ids are not secret, and a system call for each would let other threads
# run in the middle of a transition.
_draw = random.Random().getrandbits  # noqa: S311  see above


def new_uuid(now: Instant) -> str:
    """Return a random UUIDv7."""
    return _uuid7(now, _draw(74))


def derived_uuid(now: Instant, chat_id: ChatId, revision: int, n: int) -> str:
    """Return the n-th UUIDv7 of a transition: the same for the same arguments.

    Transitions are pure, so their ids are derived, not random. Within a chat no two are equal (an
    odd factor maps no two numbers to one); between chats they are as unlikely to be equal as random
    ones. `n` is between -2**19 and 2**19.
    """
    place = (revision << 20) + n
    return _uuid7(now, (_bits_of(chat_id) + place * _SPREAD) & _RANDOM_BITS)


def child_uuid(parent_id: ChatId, call_id: ToolCallId) -> ChatId:
    """Return the id of the chat that a tool call of another one creates: the same for the same
    call, so a spawn that is done again finds its child. Its time is the parent's.
    """
    named = hashlib.blake2b(f"{parent_id}/{call_id}".encode(), digest_size=10).digest()
    time = (UUID(parent_id).int >> 80) * 1000
    return ChatId(_uuid7(time, int.from_bytes(named, "big") & _RANDOM_BITS))


def new_tool_call_id() -> ToolCallId:
    """Return an id for a tool call, unique in any chat."""
    return ToolCallId(f"call_{_draw(96):024x}")


def is_uuid(text: str) -> bool:
    """Say whether a text is a UUID in its canonical form."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


_RANDOM_BITS = (1 << 74) - 1
_SPREAD = 0x2545F4914F6CDD1D9E3
"""An odd number without a pattern: neighbours are mapped far from each other."""


# A running chat makes several ids in each step, and hashing its id takes longest.
@lru_cache(maxsize=4096)
def _bits_of(chat_id: ChatId) -> int:
    return int.from_bytes(hashlib.blake2b(chat_id.encode(), digest_size=10).digest(), "big")


def _uuid7(now: Instant, bits: int) -> str:
    time = now // 1000 << 80
    whole = time | (bits >> 62) << 64 | bits & _LOW_BITS | _VERSION_AND_VARIANT
    # Not uuid.UUID: it takes three times as long.
    text = whole.to_bytes(16, "big").hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_LOW_BITS = (1 << 62) - 1
_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62
"""RFC 9562: version 7 above the first random bits, variant 2 above the others."""
