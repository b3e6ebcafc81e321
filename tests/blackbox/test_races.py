"""Streams that begin while a turn begins or is interrupted. `make races TRIES=2000` runs longer."""

import os

import pytest

from tests.blackbox.calls import connected
from tests.blackbox.races import Try, race, subscribe_at_an_interrupt, subscribe_at_the_start
from tests.blackbox.servers import Server
from tests.blackbox.storm import look_at_the_log_of

TRIES = int(os.environ.get("TRIES", "30"))

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("program", [subscribe_at_the_start, subscribe_at_an_interrupt])
async def test_streams_keep_the_contract_when_they_begin_in_a_race(
    server: Server, program: Try
) -> None:
    """At any moment, a stream catches up, shows no closed attempt, and ends."""
    async with connected(server) as caller:
        tally = await race(program, caller, TRIES, seed=1)
    if tally.failures:
        seed, violation = tally.failures[0]
        violation.add_note(f"try {seed}; {len(tally.failures)} of {tally.tries} tries failed")
        raise violation
    look_at_the_log_of(server)
