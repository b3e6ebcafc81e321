"""A long page is made in slices, and other tasks run between them."""

import pytest

from chatd.v1 import message_pb2
from chatd_server.rpc.convert.slices import SLICE_BYTES, in_slices
from tests.kit.clock import ManualClock
from tests.kit.turns import counting_turns


def part(size: int) -> message_pb2.TextPart:
    """Return a message of about `size` bytes."""
    return message_pb2.TextPart(text="x" * size)


@pytest.mark.parametrize(
    ("count", "size", "turns_min"), [(8, SLICE_BYTES, 7), (1000, SLICE_BYTES // 100, 9)]
)
async def test_what_is_long_leaves_others_their_turn(count: int, size: int, turns_min: int) -> None:
    """Whether its items are large or many."""
    async with counting_turns() as turns:
        made = [it async for it in in_slices([size] * count, part, ManualClock())]

        assert turns.count >= turns_min
    assert [len(it.text) for it in made] == [size] * count


async def test_what_is_short_is_made_at_once() -> None:
    """An ordinary page does not wait."""
    async with counting_turns() as turns:
        assert len([it async for it in in_slices([10] * 100, part, ManualClock())]) == 100
        assert turns.count == 0


async def test_what_nobody_takes_is_not_made() -> None:
    """A page that is full is not made to its end."""
    made: list[int] = []

    def shown(number: int) -> None:
        made.append(number)

    async for _ in in_slices(range(9), shown, ManualClock()):
        if len(made) == 3:
            break

    assert made == [0, 1, 2]
