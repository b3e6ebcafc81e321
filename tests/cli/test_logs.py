"""The log on standard error: one line for each fact, and no text of a conversation."""

import asyncio
import io
import json
import subprocess
import sys

import pytest

from chatd_server.cli.logs import LinesTogether

PROGRAM = """
import sys
from chatd_server.cli.logs import set_up_logs
from chatd_server.config.server import ServerConfig
from chatd_server.config.settings import Config
from chatd_server.domain.chat import StopReason
from chatd_server.domain.failure import ErrorKind
from chatd_server.observe import spans
from chatd_server.observe.log import LogObserver

set_up_logs(Config(server=ServerConfig(log_level=sys.argv[1], log_format=sys.argv[2])))
observer = LogObserver()
observer.note(spans.AttemptStarted(chat="c1", attempt="a1", number=1))
failed = {"chat": "c1", "attempt": "a1", "number": 1, "http_status": None}
observer.note(spans.AttemptFailed(kind=ErrorKind.TIMEOUT, **failed))
observer.note(spans.TurnFinished(chat="c1", turn="t1", stop_reason=StopReason.END_TURN))
"""


def _written(level: str, form: str = "json") -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, level, form], capture_output=True, text=True, check=True
    )
    assert run.stdout == ""
    return run.stderr.splitlines()


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["attempt.started", "attempt.failed", "turn.finished"]),
        ("info", ["attempt.failed", "turn.finished"]),
        ("warning", ["attempt.failed"]),
        ("error", []),
    ],
)
def test_a_level_shows_itself_and_higher_levels(level: str, events: list[str]) -> None:
    """The steps of a turn are debug lines; a failure is a warning."""
    assert [json.loads(line)["event"] for line in _written(level)] == events


def test_a_line_is_one_object_with_its_time_and_level() -> None:
    """A program can read it; values of all types are written."""
    failed, finished = map(json.loads, _written("info"))

    assert failed.pop("timestamp").endswith("Z")
    assert failed == {
        "event": "attempt.failed",
        "level": "warning",
        "chat": "c1",
        "attempt": "a1",
        "number": 1,
        "kind": "timeout",
        "http_status": None,
    }
    assert (finished["level"], finished["stop_reason"]) == ("info", "end_turn")


def test_text_is_for_people() -> None:
    """The same facts, without braces."""
    failed, finished = _written("info", "text")

    assert "attempt.failed" in failed
    assert "turn.finished" in finished
    assert "stop_reason=end_turn" in finished


class _Counted(io.BytesIO):
    """Counts how often it is written to."""

    writes = 0

    def flush(self) -> None:
        """Count a write to the file."""
        self.writes += 1


async def test_the_lines_of_one_turn_of_the_loop_are_written_together() -> None:
    """A burst of lines costs one system call, in order, without a delay."""
    file = _Counted()
    lines = LinesTogether(file)

    for number in range(50):
        lines.write(b"%d\n" % number)
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn

    assert file.getvalue().split() == [b"%d" % number for number in range(50)]
    assert file.writes == 1


def test_a_line_without_a_loop_is_written_at_once() -> None:
    """Lines before and after the loop are not lost."""
    file = _Counted()

    LinesTogether(file).write(b"a\n")

    assert file.getvalue() == b"a\n"


LIBRARIES = """
import logging, sys, threading, warnings
from chatd_server.cli.logs import set_up_logs
from chatd_server.config.server import ServerConfig
from chatd_server.config.settings import Config

set_up_logs(Config(server=ServerConfig(log_format="json")))
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("grpc").exception("it went %s", "wrong")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0, name="aside")
thread.start()
thread.join()

class Broken:
    def __del__(self):
        1 / 0

Broken()
logging.getLogger("quiet").info("nothing")
"""


def test_what_libraries_say_is_a_line_too() -> None:
    """Errors, warnings, threads that die, exceptions that nobody can catch: no plain text."""
    run = subprocess.run(
        [sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [it["event"] for it in lines] == ["library.log"] * 4
    assert [it["logger"] for it in lines] == ["grpc", "py.warnings", "python", "python"]
    assert lines[0]["message"] == "it went wrong"
    assert ["ZeroDivisionError" in it.get("trace", "") for it in lines] == [True, False, True, True]
