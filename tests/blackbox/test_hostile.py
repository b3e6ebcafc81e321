"""Requests that no client should send. `make storm` sends more of them."""

import pytest

from tests.blackbox.calls import connected
from tests.blackbox.hostile import Attack, documented_reasons, methods
from tests.blackbox.servers import Server

REQUESTS = 1500
SEED = 1

pytestmark = pytest.mark.timeout(600)


async def test_server_refuses_bad_requests_in_its_own_words_and_lives_on(server: Server) -> None:
    """No INTERNAL, no UNKNOWN, a reason for each refusal, JSON in the log, bounded memory."""
    async with connected(server) as caller:
        attack = Attack(server, caller, SEED, REQUESTS)
        await attack.run()
    # Otherwise the attack would have ended at the first check of each request.
    assert attack.counted["OK"]
    assert attack.counted["INVALID_ARGUMENT"]


def test_attack_knows_the_contract() -> None:
    """It is generated from the descriptors and the page of errors, so both must be readable."""
    assert {"Subscribe", "GetServerInfo"} <= {method.name for method in methods()}
    assert documented_reasons()["CURSOR_AHEAD"] == "OUT_OF_RANGE"
