"""Plays a script in real time: the only file of the sandbox that waits."""

from collections.abc import AsyncGenerator, Iterator

from chatd_server.domain.answer_parts import AnswerPart
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.ports.clock import Clock
from chatd_server.providers.sandbox.script import Beat, Wait

PARTS_IN_A_ROW_MAX = 256
"""A script without waits would block the event loop, so it yields after this many parts."""


async def play(beats: Iterator[Beat], clock: Clock) -> AsyncGenerator[AnswerPart, None]:
    """Yield the parts, with the waits between them."""
    due = clock.now()
    row = 0
    for beat in beats:
        if isinstance(beat, Wait):
            # A pace counts from piece to piece, so that small delays do not add up. A stall always
            # has its full length.
            due = (due if beat.is_pace else clock.now()) + round(beat.seconds * MICROSECONDS)
            if (left := due - clock.now()) > 0:
                tag = "sandbox.pace" if beat.is_pace else "sandbox.stall"
                await clock.sleep(left / MICROSECONDS, tag)
                row = 0
            continue
        if row == PARTS_IN_A_ROW_MAX:
            await clock.sleep(0, "sandbox.turn")
            row = 0
        row += 1
        yield beat
