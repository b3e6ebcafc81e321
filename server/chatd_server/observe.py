"""The one interface for observation: a closed list of span names, read by logs and by tests.

A fact is noted when it happens, with ids and counts, never with text of a conversation.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import structlog


class Span(StrEnum):
    """Everything that chatd reports. Part of the tested contract: add names, never rename one."""

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
    STREAM_WAS_SILENT = "stream.was_silent"
    WAKE_RECONNECTED = "wake.reconnected"
    DATABASE_FAILED = "database.failed"
    EVENTS_PRUNED = "events.pruned"
    ROOT_KEY_REGISTERED = "root_key.registered"
    ROOT_KEY_REVOKED = "root_key.revoked"
    SERVER_STARTED = "server.started"
    SERVER_DRAINING = "server.draining"
    SERVER_STOPPED = "server.stopped"


class Observer(Protocol):
    """Receives all facts."""

    def note(self, span: Span, **facts: object) -> None:
        """Record a fact. Must not raise and must not block."""


_DEBUG = frozenset(
    {
        Span.RUN_STARTED,
        Span.RUN_FINISHED,
        Span.ATTEMPT_STARTED,
        Span.FIRST_PART,
        Span.ANSWER_COMMITTED,
        Span.TOOL_STARTED,
        Span.TOOL_FINISHED,
        Span.RESULTS_COMMITTED,
    }
)
"""Steps within a turn. Its end is one line (`turn.finished`), which is usually enough."""
_WARNING = frozenset(
    {
        Span.RPC_FAILED,
        Span.RUN_FAILED,
        Span.LEASE_LOST,
        Span.ATTEMPT_FAILED,
        Span.TOOL_ABANDONED,
        Span.TOOL_HIDDEN,
        Span.STREAM_WAS_SILENT,
        Span.DATABASE_FAILED,
        Span.ROOT_KEY_REVOKED,
    }
)


class LogObserver:
    """Writes each fact as one log line: the steps of a turn at debug level, failures as warnings,
    the rest as information.
    """

    def __init__(self) -> None:
        # Bound once: a lazy logger looks itself up for every line.
        log = structlog.get_logger("chatd").bind()
        self._writes = {span: _level(log, span) for span in Span}

    def note(self, span: Span, **facts: object) -> None:
        self._writes[span](span.value, **facts)


def _level(log: structlog.typing.FilteringBoundLogger, span: Span) -> Callable[..., object]:
    if span in _DEBUG:
        return log.debug
    return log.warning if span in _WARNING else log.info


class NullObserver:
    """Ignores every fact."""

    def note(self, span: Span, **facts: object) -> None:
        """Do nothing."""
