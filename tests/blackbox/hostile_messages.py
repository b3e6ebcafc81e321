"""Random requests, generated from the descriptors: valid, at a limit, wrong, or not a message."""

import random
import uuid
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

DEPTH_MAX = 5
INTEGERS = (0, 1, -1, 2, 7, 200, 201, 10_000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
DOUBLES = (0.0, -0.0, 1.0, 2.0, 2.1, -1.0, 1e308, float("inf"), float("-inf"), float("nan"))
STRINGS = (
    "",
    " ",
    "a",
    "hello",
    "\x00",
    "a\x00b",
    "\N{BYTE ORDER MARK}",
    "e\N{COMBINING ACUTE ACCENT}\N{PARTY POPPER}",
    "'; DROP TABLE chats; --",
    "../../etc/passwd",
    "sandbox/echo",
    "sandbox/none",
    "anthropic/claude",
    "{}",
    "{",
    '{"type": "object"}',
    "[" * 2000,
    "1e999",
    "!text 3",
    "!call nothing {",
    "x" * 63,
    "x" * 64,
    "x" * 257,
    "x" * 1025,
)
LONG = ("\N{PARTY POPPER}" * 65_537, "x" * 524_289, "x" * 262_144)


TAME = {"model": "sandbox/echo", "input_schema_json": '{"type": "object"}', "output_json": "{}"}
"""Values that are valid for fields with special rules."""


@dataclass
class Composer:
    """Composes requests from earlier responses, so that some pass the first checks."""

    rng: random.Random
    ids: dict[str, list[str]] = field(default_factory=dict)
    """Values from responses, by field name."""

    def remember(self, name: str, value: str) -> None:
        """Use a value again in fields of this name."""
        known = self.ids.setdefault(name, [])
        known.append(value)
        del known[:-50]

    def request(self, kind: Descriptor) -> Message:
        """Compose a request; its density and wildness are drawn once."""
        message = message_factory.GetMessageClass(kind)()
        taste = Taste(self.rng.choice([0.15, 0.5, 0.9]), self.rng.choice([0.0, 0.05, 0.6]))
        self._fill(message, taste, 0)
        return message

    def _fill(self, message: Message, taste: "Taste", depth: int) -> None:
        for known in message.DESCRIPTOR.fields:
            # Most requests name existing chats; the others would end at the first check.
            wanted = taste.density if known.name not in {"chat_id", "kind", "text"} else 0.97
            if self.rng.random() < wanted and depth < DEPTH_MAX:
                self._set(message, known, taste, depth)

    def _set(self, message: Message, known: Any, taste: "Taste", depth: int) -> None:
        kind = known.message_type
        target = getattr(message, known.name)
        if kind is not None and kind.GetOptions().map_entry:
            for _ in range(self._count()):
                key = self._scalar(kind.fields_by_name["key"], taste)
                target[key] = self._scalar(kind.fields_by_name["value"], taste)
        elif known.is_repeated and kind is not None:
            for _ in range(self._count()):
                self._fill(target.add(), taste, depth + 1)
        elif known.is_repeated:
            target.extend(self._scalar(known, taste) for _ in range(self._count()))
        elif kind is not None:
            target.SetInParent()
            self._fill(target, taste, depth + 1)
        else:
            setattr(message, known.name, self._scalar(known, taste))

    def _count(self) -> int:
        return self.rng.choice([0, 3, 65, 129, 257]) if self.rng.random() < 0.04 else 1

    def _scalar(self, known: Any, taste: "Taste") -> object:
        rng = self.rng
        wild = rng.random() < taste.wildness
        match known.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if known.type == FieldDescriptor.TYPE_BYTES:
                return rng.randbytes(rng.choice([0, 1, 100, 5000]))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._string(known.name, wild=wild)
            case FieldDescriptor.CPPTYPE_ENUM:
                numbers = [value.number for value in known.enum_type.values]
                return rng.choice([*numbers, 99, -1, 2**31 - 1] if wild else numbers)
            case FieldDescriptor.CPPTYPE_BOOL:
                return rng.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return rng.choice(DOUBLES) if wild else 1.0
            case FieldDescriptor.CPPTYPE_INT32:
                return rng.choice([n for n in INTEGERS if -(2**31) <= n < 2**31]) if wild else 3
            case _:
                return rng.choice(INTEGERS) if wild else 3

    def _string(self, name: str, *, wild: bool) -> str:
        rng = self.rng
        if wild:
            return rng.choice(LONG) if rng.random() < 0.02 else rng.choice(STRINGS)
        if name in TAME:
            return TAME[name]
        if real := self.ids.get(name, ()):
            return rng.choice(real)
        if name.endswith("_id"):
            return str(uuid.UUID(int=rng.getrandbits(128), version=4))
        if name == "name":
            return f"tool_{rng.randrange(1000)}"
        if name.endswith(("token", "etag")):
            return ""
        return rng.choice(["hello", "!text 3", "!call tool_1", "!stall 1", "blåbær"])


@dataclass(frozen=True)
class Taste:
    """How many fields of a request are set, and how many values are at a limit or beyond."""

    density: float
    wildness: float


def garble(wire: bytes, rng: random.Random) -> bytes:
    """Damage the bytes of a request."""
    at = rng.randint(0, len(wire))
    number = rng.randint(1, 20)
    match rng.randrange(9):
        case 0:
            return rng.randbytes(rng.choice([1, 10, 300, 20_000]))
        case 1:
            return wire[:at]
        case 2:
            return wire[:at] + rng.randbytes(3) + wire[at:]
        case 3:
            return wire + wire
        case 4:  # a field of another wire type: varint, 64 bit, length, group, end of group, 32 bit
            tag = _varint(number << 3 | rng.randrange(8))
            return wire + tag + rng.randbytes(rng.choice([1, 4, 8, 12]))
        case 5:  # a length beyond the end
            return (
                wire + _varint(number << 3 | 2) + _varint(2 ** rng.choice([7, 31, 32, 63])) + b"x"
            )
        case 6:  # a string that is not UTF-8
            return wire + _varint(number << 3 | 2) + b"\x03\xff\xfe\xc0"
        case 7:  # nested groups
            return wire + _varint(number << 3 | 3) * rng.choice([1, 50, 5000])
        case _:  # a varint that never ends
            return wire + _varint(number << 3) + b"\xff" * rng.choice([9, 10, 11, 100])


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def odd_metadata(rng: random.Random, key: str) -> list[tuple[str, str | bytes]]:
    """Return metadata: usually with the right key, always with extra entries."""
    right = ("authorization", f"Bearer {key}")
    some: list[list[tuple[str, str | bytes]]] = [
        [right],
        [right, ("x-odd-bin", rng.randbytes(200))],
        [right, *((f"x-many-{number}", "y") for number in range(40))],
        [right, ("x-long", "z" * 4000)],
        [right, ("traceparent", "00-nonsense")],
        [right, ("user-agent", "~"), ("accept-encoding", "nothing")],
        [],
        [("authorization", "Bearer chatd_wrong")],
        [("authorization", "Bearer ")],
        [("authorization", f"Basic {key}")],
        [("authorization", "~" * 50)],
        [right, ("authorization", "Bearer chatd_other")],
        [("authorization-bin", key.encode())],
    ]
    return rng.choice(some) if rng.random() < 0.3 else some[0]
