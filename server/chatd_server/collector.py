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
