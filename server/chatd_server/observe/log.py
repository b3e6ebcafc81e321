"""Facts as lines of the log."""

import logging

import msgspec
import structlog

from chatd_server.observe.spans import Fact


class LogObserver:
    """Writes each fact as one log line, at its level."""

    def __init__(self) -> None:
        # Bound once: a lazy logger looks itself up for every line.
        log = structlog.get_logger("chatd").bind()
        levels = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
        self._writes = {
            name: getattr(log, name) for name, level in levels.items() if log.is_enabled_for(level)
        }

    def note(self, fact: Fact) -> None:
        write = self._writes.get(fact.level)
        if write is not None:
            write(**msgspec.to_builtins(fact))
