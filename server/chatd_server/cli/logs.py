"""The log goes to standard error; standard output has only the results of commands."""

import asyncio
import atexit
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import structlog

from chatd_server.config.settings import Config

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up_logs(config: Config) -> None:
    """Write lines of JSON, or text for people, from the configured level up."""
    if config.server.log_format == "text":
        shown: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        lines: Any = structlog.PrintLoggerFactory(sys.stderr)
    else:
        shown = structlog.processors.JSONRenderer(serializer=_json)
        together = LinesTogether(sys.stderr.buffer)
        atexit.register(together.write_now)
        lines = structlog.BytesLoggerFactory(together)  # type: ignore[arg-type]  # it only writes
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.server.log_level]),
        logger_factory=lines,
        cache_logger_on_first_use=True,
    )
    # Warnings and errors of libraries become lines of this log.
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryLines()])
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
    threading.excepthook = _died


class LibraryLines(logging.Handler):
    """Writes records of libraries as lines of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, object] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            facts["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        structlog.get_logger("chatd").log(record.levelno, "library.log", **facts)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    logging.getLogger("python").error(
        "%s: %r", what.err_msg or "an exception was ignored", what.object, exc_info=what.exc_value
    )


def _died(what: threading.ExceptHookArgs) -> None:
    name = "?" if what.thread is None else what.thread.name
    logging.getLogger("python").error("thread %s died", name, exc_info=what.exc_value)


class LinesTogether:
    """A file that writes the lines of one iteration of the event loop together.

    A write is a system call that releases the GIL, and costs more than its line. Without a running
    loop, each line is written at once.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) > 1:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write_now()
        else:
            loop.call_soon(self.write_now)

    def flush(self) -> None:
        """Do nothing: the loop writes the lines."""

    def write_now(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._file.write(b"".join(lines))
            self._file.flush()


def _json(line: object, default: Callable[[object], object]) -> bytes:
    return msgspec.json.encode(line, enc_hook=default)
