"""The cyclic garbage collector of a server: most of what it would look at is not its business."""

import gc

YOUNG_OBJECTS = 20_000
"""New objects that may hold others, before the young ones are looked at. With Python's 700 the
collector runs at every other commit and every few tokens, and finds nothing: what turns leave
behind goes with its last reference."""


def settle() -> None:
    """Keep what is alive now for ever, and look at the rest seldom.

    A collection that looks at the modules of the HTTP libraries stops all streams for 30 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def let_go(error: BaseException | None) -> None:
    """Let go of the frames through which an error came, when it is dealt with.

    Whoever awaited a future that failed is in a cycle with it: the future holds the error, its
    traceback the frame, the frame the future. What such a frame holds (a chat's history, a request)
    would stay until the collector comes.
    """
    left = [error]
    while left:
        one = left.pop()
        if one is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            left += (one.__cause__, one.__context__)
