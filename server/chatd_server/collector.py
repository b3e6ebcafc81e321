"""Tuning of the cyclic garbage collector for a server, where most objects live for ever."""

import gc

YOUNG_OBJECTS = 20_000
"""New container objects before a young collection. With Python's default of 700 the collector runs
at every other commit and every few tokens and finds nothing: turns free their objects by reference
count."""


def settle() -> None:
    """Exclude all objects alive now from collection, and collect the rest less often.

    A collection that visits the modules of the HTTP libraries stops all streams for 30 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def let_go(error: BaseException | None) -> None:
    """Release the frames of a handled error's traceback.

    A failed future and the frame that awaited it form a cycle: the future holds the error, its
    traceback the frame, the frame the future. The frame's data (a chat's history, a request) would
    stay in memory until the collector runs.
    """
    left = [error]
    while left:
        one = left.pop()
        if one is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            left += (one.__cause__, one.__context__)
