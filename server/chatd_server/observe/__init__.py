"""The one interface for observation. `spans` lists the facts; `log` is the observer of the server.
Metrics and traces become observers next to it.
"""

from typing import Protocol

from chatd_server.observe.spans import Fact


class Observer(Protocol):
    """Receives all facts."""

    def note(self, fact: Fact) -> None:
        """Record a fact. Must not raise and must not block."""


class NullObserver:
    """Ignores every fact."""

    def note(self, fact: Fact) -> None:
        """Do nothing."""
