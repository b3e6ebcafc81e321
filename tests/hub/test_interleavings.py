"""The hub in every order of small histories, and in random orders of large ones.

The summary of the run gives the number of orders. Those that lead to the same state are continued
once and counted each.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatd_server.domain.chat import Status
from chatd_server.domain.event import Cursor
from chatd_server.domain.live import Follow, Until
from tests.hub.explorer import explore
from tests.hub.histories import HISTORIES, edits, interrupts, renames, sends
from tests.hub.run import Run, fenced
from tests.hub.scene import Actor, Scene

STATES_MAX = 10_000
"""More would take minutes; such a history belongs to the random orders."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("play", HISTORIES.values(), ids=HISTORIES.keys())
def test_no_stream_is_forgotten_in_any_order(
    play: Callable[[], Scene], record_property: Callable[[str, object], None]
) -> None:
    """The nine guarantees hold at each response, and at the end nothing is owed to any reader."""
    coverage = explore(play, states_max=STATES_MAX)
    record_property("interleavings", coverage.interleavings)
    record_property("states", coverage.states)
    assert coverage.interleavings > 100, "a history without interleavings tests nothing"


def works(scene: Scene, name: str, server: int) -> Actor:
    """Acquire the chat whenever it has work, and answer in one of several ways."""
    for number in range(4):
        yield lambda: scene.store.state.status is Status.PENDING
        run = Run(scene, f"{name}{number}", server)
        yield from fenced(run, _turn(run, number))


def _turn(run: Run, number: int) -> Actor:
    yield from run.acquires_and_begins()
    if number % 2:
        run.says("no ")
        yield None
        yield from run.retry()
        yield from run.begin()
    if number == 2:
        yield from run.answers_and_begins("well")
    yield from run.answers("so ", "it ", "goes")
    if run.scene.store.state.status is Status.INTERRUPTING:
        yield from run.is_interrupted()
    else:
        yield from run.finish()


def large(servers: int, *, lost: bool) -> Scene:
    """Several turns, clients that write meanwhile, readers that are cut and resume."""
    scene = Scene(servers=servers, page_max=3, hints_may_be_lost=lost)
    last = servers - 1
    for server in range(servers):
        scene.actor(f"worker{server}", works(scene, f"worker{server}.", server))
    scene.actor("sends", sends(scene, last))
    scene.actor("interrupts", interrupts(scene, last))
    scene.actor("sends2", sends(scene))
    scene.actor("edits", edits(scene, last))
    scene.actor("renames", renames(scene))
    scene.reader(cuts=2, beats=2)
    scene.reader(Follow(Cursor(0), deltas=False), cuts=1, server=last)
    scene.reader(Follow(Cursor(0)), cuts=2, beats=1, server=last)
    scene.reader(Follow(until=Until.SETTLED), leaves=True)
    return scene


@pytest.mark.timeout(600)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(servers=st.integers(1, 2), lost=st.booleans(), choices=st.randoms(use_true_random=False))
def test_no_stream_is_forgotten_in_random_orders_of_a_large_history(
    servers: int, lost: bool, choices: random.Random
) -> None:
    """Histories that are too large to be enumerated are played in random orders."""
    scene = large(servers, lost=lost and servers > 1)
    taken = []
    try:
        while actions := scene.enabled():
            taken.append(choices.choice(actions))
            scene.take(taken[-1])
        scene.finish()
    except AssertionError as broken:
        broken.add_note("in this order: " + ", ".join(taken))
        raise
