"""JSON text as RFC 8259 has it: any number, any escape, but no NaN and no Infinity.

What clients and models write is stored as text; it is parsed only to check or to read it.
"""

import json
import re

import msgspec

DIGITS_KEPT = 100
"""Digits that `parse` keeps of a whole number. Python refuses to convert more than 4,300, RFC 8259
sets no limit; of a longer number only type and sign are used."""

_RAW = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def parse(text: str) -> object:
    """Return the value of JSON text; whole numbers keep at most their first DIGITS_KEPT digits.

    Raises ValueError, and RecursionError for text that is nested too deeply.
    """
    return json.loads(text, parse_int=_whole_number, parse_constant=_no_constant)


def json_fault(text: str) -> str:
    """Return what is wrong with JSON text; empty when it is valid."""
    if is_json(text):
        return ""
    try:
        parse(text)
    except RecursionError:
        return "the JSON is nested too deeply"
    except ValueError as error:
        return f"not valid JSON: {error}"
    return ""


def is_json(text: str) -> bool:
    """Say whether text is JSON as RFC 8259 has it: any number, any escape, but no NaN.

    Makes no Python value: for 512 KiB that takes 26 ms in one call, which blocks every thread.
    False also for text that is nested too deeply.
    """
    try:
        _RAW.decode(text)
    except RecursionError:
        return False
    except (msgspec.DecodeError, UnicodeError):
        # msgspec refuses escapes of lone surrogates, which JSON allows. Another escape in their
        # place changes nothing else, also after a backslash.
        harmless = _SURROGATE.sub(r"\\u0020", text)
        return harmless != text and is_json(harmless)
    return True


def _whole_number(digits: str) -> int:
    return int(digits[:DIGITS_KEPT])


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
