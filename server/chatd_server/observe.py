"""The one seam for observation: a closed list of span names, read by logs and by tests.

A fact is noted when it happens, with ids and counts, never with the words of a conversation.
"""

from enum import StrEnum
from typing import Protocol

import structlog


class Span(StrEnum):
    """Everything that chatd notes. Part of the tested contract: add, never rename."""

    RPC_FINISHED = "rpc.finished"
    RPC_FAILED = "rpc.failed"
    RUN_STARTED = "run.started"
    RUN_FINISHED = "run.finished"
    RUN_FAILED = "run.failed"
    LEASE_LOST = "lease.lost"
    CHATS_RESCUED = "chats.rescued"
    ATTEMPT_STARTED = "attempt.started"
    ATTEMPT_FAILED = "attempt.failed"
    FIRST_PART = "attempt.first_part"
    ANSWER_COMMITTED = "answer.committed"
    TOOL_STARTED = "tool.started"
    TOOL_FINISHED = "tool.finished"
    TOOL_ABANDONED = "tool.abandoned"
    TOOL_HIDDEN = "tool.hidden"
    RESULTS_COMMITTED = "results.committed"
    ACTION_REQUIRED = "action.required"
    TURN_FINISHED = "turn.finished"
    WAKE_RECONNECTED = "wake.reconnected"
    DATABASE_FAILED = "database.failed"
    EVENTS_PRUNED = "events.pruned"
    SERVER_STARTED = "server.started"
    SERVER_DRAINING = "server.draining"
    SERVER_STOPPED = "server.stopped"


class Observer(Protocol):
    """Whoever wants to know."""

    def note(self, span: Span, **facts: object) -> None:
        """Take a fact. Must not raise and must not block."""


class LogObserver:
    """Writes each fact as one line of the log."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("chatd")

    def note(self, span: Span, **facts: object) -> None:
        """Write one line; failures are warnings."""
        is_bad = span.endswith((".failed", ".lost", ".abandoned", ".hidden"))
        write = self._log.warning if is_bad else self._log.info
        write(str(span), **facts)


class NullObserver:
    """Takes every fact and keeps none."""

    def note(self, span: Span, **facts: object) -> None:
        """Do nothing."""
