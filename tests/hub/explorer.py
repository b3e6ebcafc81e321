"""Runs a scene in every order that its actors allow.

A scene offers its possible next actions; the explorer takes each of them in turn, by playing the
scene again from the start. Orders that lead to the same state are continued once and counted each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol


class Playable(Protocol):
    """One run of a history. Only `take` makes something happen in it."""

    def enabled(self) -> Sequence[str]:
        """Return the names of the possible next actions, in a fixed order; none at the end."""

    def take(self, action: str) -> None:
        """Carry out an action. Raises AssertionError if a rule is broken."""

    def finish(self) -> None:
        """Check what must hold when no action is left."""

    def state(self) -> int:
        """Return the fingerprint of everything that the future depends on."""


@dataclass
class Coverage:
    """The result of an exploration."""

    #: Different orders of all actions, from the beginning to the end.
    interleavings: int = 0
    states: int = 0
    steps: int = 0


class TooManyStatesError(Exception):
    """The history is too large to be enumerated."""


def explore(play: Callable[[], Playable], *, states_max: int) -> Coverage:
    """Play every order. A failure carries the order that led to it as a note."""
    return _Search(play, states_max).run()


class _Search:
    def __init__(self, play: Callable[[], Playable], states_max: int) -> None:
        self._play = play
        self._states_max = states_max
        #: Number of orders from a state to the end.
        self._orders: dict[int, int] = {}
        self._steps = 0

    def run(self) -> Coverage:
        total = self._from(self._play(), [])
        return Coverage(total, len(self._orders), self._steps)

    def _from(self, scene: Playable, path: list[str]) -> int:
        state = scene.state()
        known = self._orders.get(state)
        if known is not None:
            return known
        if len(self._orders) >= self._states_max:
            raise TooManyStatesError(f"more than {self._states_max} states")
        actions = list(scene.enabled())
        if not actions:
            self._noting(scene.finish, path)
            self._orders[state] = 1
            return 1
        total = 0
        for index, action in enumerate(actions):
            at = scene if index == 0 else self._replayed(path)
            self._noting(partial(at.take, action), [*path, action])
            self._steps += 1
            total += self._from(at, [*path, action])
        self._orders[state] = total
        return total

    def _replayed(self, path: list[str]) -> Playable:
        scene = self._play()
        for action in path:
            scene.take(action)
        return scene

    @staticmethod
    def _noting(do: Callable[[], None], path: list[str]) -> None:
        try:
            do()
        except Exception as broken:
            broken.add_note("in this order: " + ", ".join(path))
            raise
