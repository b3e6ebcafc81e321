"""Large things a piece at a time.

The driver decodes and encodes on the event loop, and so does the store: small things at once, large
ones in pieces, so that other tasks run in between.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from chatd_server.domain.limits import KIB
from chatd_server.ports.clock import Clock

PIECE_BYTES = 512 * KIB
"""The bytes that are asked for, decoded or sent before other tasks run; one item may have more.
It takes one or two milliseconds."""

It = TypeVar("It")
Value = TypeVar("Value")


def in_pieces(
    items: Iterable[It], size_of: Callable[[It], int], bytes_max: int = PIECE_BYTES
) -> Iterator[list[It]]:
    """Yield all items in order, in lists of at most `bytes_max`, or of one item."""
    piece: list[It] = []
    size = 0
    for item in items:
        added = size_of(item)
        if piece and size + added > bytes_max:
            yield piece
            piece, size = [], 0
        piece.append(item)
        size += added
    if piece:
        yield piece


async def decoded(
    rows: Sequence[Any],
    decode: Callable[[Any], Value],
    size_of: Callable[[Any], int],
    clock: Clock,
) -> list[Value]:
    """Return the value of each row; rows that fit one piece are decoded without a wait."""
    found: list[Value] = []
    for piece in in_pieces(rows, size_of):
        if found:
            await clock.sleep(0, "postgres.piece")
        found += [decode(row) for row in piece]
    return found
