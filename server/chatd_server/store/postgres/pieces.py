"""Large things a piece at a time, so that no turn of the event loop has all of one to itself.

The driver decodes and encodes on the loop, and so do we: what is small is done at once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from chatd_server.domain.limits import KIB
from chatd_server.ports.clock import Clock

PIECE_BYTES = 512 * KIB
"""What is asked for, decoded or sent before others have their turn; or one item, if it has more.
It takes one or two milliseconds."""

It = TypeVar("It")
Value = TypeVar("Value")


def in_pieces(
    items: Iterable[It], size_of: Callable[[It], int], bytes_max: int = PIECE_BYTES
) -> Iterator[list[It]]:
    """Yield all items in order, so many at once as have at most `bytes_max`, or one."""
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
    """Return what each row holds; what fits one piece comes without a wait."""
    found: list[Value] = []
    for piece in in_pieces(rows, size_of):
        if found:
            await clock.sleep(0, "postgres.piece")
        found += [decode(row) for row in piece]
    return found
