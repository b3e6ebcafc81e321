"""Requests that no client library sends, generated from the contract's descriptors and a seed."""

import random
from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)

NUMBERS = (0, 1, 2, 63, 127, 128, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
LENGTHS = (0, 1, 2, 63, 64, 127, 128, 200, 201, 256, 257, 1024, 1025, 4096, 65_536, 65_537)
TEXTS = (
    *(b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x00", b"\xef\xbb\xbf"),
    *(b"{}", b"{", b"[" * 5000, b"9" * 4301, b'{"type":"object"}', b'{"type":"object","$ref":"#"}'),
    *(b"01890000-0000-7000-8000-000000000000", b"sandbox/echo", b"nobody/none", b"!call look {"),
    *("\u202e\U0001f600\u0000".encode(), b"' OR 1=1 --", b"../../etc/passwd", b"%s%n", b"-1"),
)
DEPTH_MAX = 4


class Hostile:
    """Generates requests; the same seed gives the same ones."""

    def __init__(self, seed: int, known: Sequence[bytes]) -> None:
        """`known` are texts that the server knows, such as ids of its chats."""
        self.random = random.Random(seed)
        self._known = known

    def request(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of one request, valid or not, of this type."""
        body = self._message(descriptor, 0)
        chance = self.random.random()
        if chance < 0.1:
            return body[: self.random.randrange(len(body) + 1)]
        if chance < 0.2:
            return self._flipped(body)
        if chance < 0.25:
            return self.random.randbytes(self.random.choice(LENGTHS[:12]))
        if chance < 0.27:
            # Groups that never end, and nested messages.
            return bytes(((15 << 3) | GROUP,)) * self.random.choice((10, 99, 101, 10_000))
        return body

    def _message(self, descriptor: Descriptor, depth: int) -> bytes:
        fields = list(descriptor.fields)
        # With repetition: of a oneof the last one counts, and repeated messages are merged.
        chosen = self.random.choices(fields, k=self.random.randrange(6)) if fields else []
        chosen += [it for it in fields if it.name == "chat_id" and self.random.random() < 0.8]
        parts = [self._field(it, depth) for it in chosen]
        if self.random.random() < 0.1:
            parts.append(self._unknown())
        return b"".join(parts)

    def _field(self, field: FieldDescriptor, depth: int) -> bytes:
        if self.random.random() < 0.08:
            return _tag(field.number, self.random.randrange(8)) + self.random.randbytes(3)
        kind = field.message_type
        if kind is not None:
            body = self._message(kind, depth + 1) if depth < DEPTH_MAX else b""
            times = self.random.choice((1, 1, 1, 2, 300)) if len(body) < 50 else 1
            return (_tag(field.number, BYTES) + _varint(len(body)) + body) * times
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            text = self._text(field)
            return _tag(field.number, BYTES) + _varint(len(text)) + text
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return _tag(field.number, FIXED64) + self.random.randbytes(8)
        if field.type == FieldDescriptor.TYPE_FLOAT:
            return _tag(field.number, FIXED32) + self.random.randbytes(4)
        return _tag(field.number, VARINT) + self._number(field)

    def _number(self, field: FieldDescriptor) -> bytes:
        if self.random.random() < 0.05:
            return b"\xff" * self.random.choice((9, 10, 11, 20)) + b"\x01"
        if field.enum_type is not None and self.random.random() < 0.5:
            return _varint(self.random.randrange(len(field.enum_type.values) + 3))
        return _varint(self.random.choice(NUMBERS))

    def _text(self, field: FieldDescriptor) -> bytes:
        if field.name == "chat_id" and self.random.random() < 0.8:
            return self.random.choice(self._known)
        chance = self.random.random()
        if chance < 0.4:
            return self.random.choice(TEXTS)
        if chance < 0.6:
            return self.random.choice(self._known)
        return self.random.choice((b"x", b" ", "ä".encode())) * self.random.choice(LENGTHS)

    def _unknown(self) -> bytes:
        number = self.random.choice((0, 1000, 18_999, 2**29 - 1))
        return _tag(number, VARINT) + _varint(self.random.choice(NUMBERS))

    def _flipped(self, body: bytes) -> bytes:
        changed = bytearray(body or b"\x00")
        for _ in range(self.random.randrange(1, 5)):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
