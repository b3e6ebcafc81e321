"""Bytes of a request to its message.

Three megabytes can have a million values. To decode and validate them takes seconds in one call of
a library, in which nothing else runs. So they are counted first.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from chatd_server.domain.limits import REQUEST_BYTES_MAX, REQUEST_VALUES_MAX
from chatd_server.rpc.edge.errors import MalformedRequest, MessageTooLarge

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WHOLE = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})


def decoded(request_type: type[Message], raw: bytes) -> Message:
    """Return the request; raises MessageTooLarge, MalformedRequest."""
    size = len(raw)
    if size > REQUEST_BYTES_MAX:
        raise MessageTooLarge(
            f"the request has {size} bytes, and at most {REQUEST_BYTES_MAX} are accepted; "
            "send less text in one message"
        )
    # Only packed values take less than two bytes, and a few of those do no harm.
    if size > 2 * REQUEST_VALUES_MAX and has_more_values(raw, request_type, REQUEST_VALUES_MAX):
        raise MessageTooLarge(
            f"the request has more than {REQUEST_VALUES_MAX} values (items of lists and their "
            "fields); send fewer in one request"
        )
    try:
        return request_type.FromString(raw)
    except (DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(
            f"the request cannot be decoded as {request_type.DESCRIPTOR.full_name}: {error}; "
            "send strings as UTF-8, and use the same contract as the server"
        ) from error


def has_more_values(raw: bytes, request_type: type[Message], most: int) -> bool:
    """Say whether an encoded message has more than `most` values, nested ones included.

    Malformed bytes count as far as they can be read: decoding refuses them.
    """
    # The two implementations of protobuf have no common type for a descriptor.
    kind: Any = request_type.DESCRIPTOR
    count = 0
    at, end = 0, len(raw)
    #: Where to continue in the messages around this one.
    around: list[tuple[int, Any]] = []
    while True:
        while at >= end:
            if not around:
                return count > most
            end, kind = around.pop()
        count += 1
        if count > most:
            return True
        tag, at = _varint(raw, at, end)
        wire = tag & 7
        if wire == _VARINT:
            _, at = _varint(raw, at, end)
        elif wire == _BYTES:
            size, at = _varint(raw, at, end)
            inside = _fields(kind).get(tag >> 3)
            if inside is not None:
                around.append((end, kind))
                end, kind = min(at + size, end), inside
                continue
            if tag >> 3 in _packed(kind):
                count += size  # at least a byte each
            at += size
        elif wire == _FIXED64:
            at += 8
        elif wire == _FIXED32:
            at += 4


@cache
def _fields(kind: Any) -> Mapping[int, Any]:
    """Return the messages inside a message, by the numbers of their fields."""
    return {it.number: it.message_type for it in kind.fields if it.message_type is not None}


@cache
def _packed(kind: Any) -> frozenset[int]:
    """Return the numbers of the fields that are lists of numbers."""
    return frozenset(
        it.number
        for it in kind.fields
        if it.is_repeated and it.message_type is None and it.type not in _WHOLE
    )


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number, and where it ends."""
    value = shift = 0
    while at < end:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  the bit that says that more follows
            break
        shift += 7
    return value, at
