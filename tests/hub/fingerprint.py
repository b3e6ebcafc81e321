"""One value for everything in an object graph, including suspended coroutines.

Two scenes with the same fingerprint continue in the same way, so only one of them is explored.
"""

import asyncio
import types
from collections import deque
from collections.abc import Iterable
from enum import Enum
from functools import cache
from typing import Any

import msgspec

from chatd_server.domain.message import Value

_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
_LISTS = frozenset({list, tuple, deque})


def fingerprint(roots: Iterable[object], *, skips: frozenset[type], ignored: frozenset[str]) -> int:
    """Return a hash of everything reachable.

    `skips`: types of objects that are the same in every scene, or that no decision depends on.
    `ignored`: names of attributes that are only counters.
    """
    walk = _Walk(skips, ignored)
    for root in roots:
        walk.visit(root)
    return hash(tuple(walk.tokens))


class _Walk:
    """A walk that records what it finds; an object found again is a reference to the first."""

    def __init__(self, skips: frozenset[type], ignored: frozenset[str]) -> None:
        self.tokens: list[Any] = []
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # an id is only unique while its object lives
        self._skips = skips
        self._ignored = ignored

    def visit(self, it: Any) -> None:
        """Record one object."""
        kind = type(it)
        if kind in _PLAIN:
            self.tokens.append(it)
            return
        if kind in self._skips:
            return
        number = self._seen.get(id(it))
        if number is not None:
            self.tokens.append(("again", number))
            return
        self._seen[id(it)] = len(self._seen)
        self._kept.append(it)
        self.tokens.append(kind)
        if kind in _LISTS:
            self._all(it)
        elif isinstance(it, Value):
            self.tokens.append(msgspec.msgpack.encode(it))  # from the domain: contains only values
        else:
            self._inside(it)

    def _inside(self, it: Any) -> None:
        match it:
            case Enum() | type() | types.BuiltinFunctionType():
                self.tokens.append(it)
            case dict():
                self._all(it.keys())
                self._all(it.values())
            case set() | frozenset():
                self.tokens.append(len(it))  # its members are visited elsewhere, in a fixed order
            case msgspec.Struct():
                self._all(getattr(it, name) for name in it.__struct_fields__)
            case asyncio.Future():
                self.tokens.append(it.done())
            case types.CoroutineType():
                self._frame(it.cr_frame, it.cr_await)
            case types.GeneratorType():
                self._frame(it.gi_frame, it.gi_yieldfrom)
            case types.MethodType():
                self.tokens.append(it.__name__)
                self.visit(it.__self__)
            case types.FunctionType():
                self.tokens.append(it.__qualname__)
                self._all(cell.cell_contents for cell in it.__closure__ or ())
            case bytearray():
                self.tokens.append(bytes(it))
            case _:
                self._attributes(it)

    def _all(self, items: Iterable[Any]) -> None:
        count = 0
        for item in items:
            self.visit(item)
            count += 1
        self.tokens.append(count)

    def _frame(self, frame: types.FrameType | None, inner: object) -> None:
        if frame is None:
            self.tokens.append("ended")
            return
        self.tokens.append((frame.f_code.co_qualname, frame.f_lasti))
        self._all(frame.f_locals.values())
        self.visit(inner)

    def _attributes(self, it: Any) -> None:
        kind: type = type(it)
        for name in (*_slots(kind), *getattr(it, "__dict__", ())):
            if name not in self._ignored:
                self.tokens.append(name)
                self.visit(getattr(it, name, None))


@cache
def _slots(kind: type) -> tuple[str, ...]:
    return tuple(
        name
        for base in kind.__mro__
        for name in getattr(base, "__slots__", ())
        if not name.startswith("__")
    )
