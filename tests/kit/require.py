"""Optional dependencies of tests, and those that must be present.

CHATD_REQUIRE is a list such as `postgres,node,go`. Without it, a test that needs one of these skips
and gives the reason; with it, the same skip is a failure.
"""

import os
from typing import NoReturn

import pytest


def required(name: str) -> bool:
    """Return whether this run requires `name`."""
    return name in os.environ.get("CHATD_REQUIRE", "").replace(",", " ").split()


def missing(name: str, reason: str) -> NoReturn:
    """Skip the test with the reason; fail it if `name` is required."""
    if required(name):
        pytest.fail(f"CHATD_REQUIRE names {name}, but {reason}", pytrace=False)
    pytest.skip(f"no {name}: {reason}")
