"""Programs on their own terminal: the kernel turns Ctrl-C and hanging up into signals."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from tests.cli.programs import SECONDS_MAX

# As a login does: the terminal belongs to the session, and nothing ignores Ctrl-C, unlike
# programs in the background of a shell (perhaps these tests).
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""

CTRL_C = b"\x03"
CTRL_D = b"\x04"
PROMPT = "\x1b[?2004h"
"""A prompt begins with this: the terminal marks pasted text."""
ANSWER = "\x1b[?2004l"
"""A prompt ends with this; what follows is the answer and not the echo."""
UP, LEFT = b"\x1b[A", b"\x1b[D"


@dataclass
class Seat:
    """A person at a terminal, and the program that leads its session."""

    process: subprocess.Popen[bytes]
    _terminal: int
    shown: bytes = b""
    #: Where the next `until` begins.
    _seen: int = 0
    #: Every process that was started here, as far as `note_processes` saw it.
    _processes: list[psutil.Process] = field(default_factory=list)

    def types(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def until(self, words: str) -> None:
        """Read until this text is shown, after the text of the last wait."""
        wanted = words.encode()
        while (at := self.shown.find(wanted, self._seen)) < 0:
            assert self._read(), f"{words!r} was not shown after {self.shown[self._seen :]!r}"
        self._seen = at + len(wanted)

    def settings(self) -> list[object]:
        """Return the settings of the terminal, which a program must restore."""
        return termios.tcgetattr(self._terminal)

    def note_processes(self) -> list[psutil.Process]:
        """Remember and return all processes that run here."""
        leader = psutil.Process(self.process.pid)
        self._processes = [leader, *leader.children(recursive=True)]
        return self._processes

    def left_behind(self) -> list[psutil.Process]:
        """Return the noted processes that still run."""
        return [it for it in self._processes if _runs(it)]

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._terminal)
        self._terminal = -1

    def ends(self) -> int:
        """Wait for the end and return the exit code; keep reading the terminal."""
        while self._terminal >= 0 and self._read():
            pass
        return self.process.wait(SECONDS_MAX)

    def leave(self) -> None:
        """End all processes, whatever the result of the test."""
        with suppress(psutil.NoSuchProcess):
            self.note_processes()
        for process in self.left_behind():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(SECONDS_MAX)
        if self._terminal >= 0:
            self.hang_up()

    def _read(self) -> bytes:
        try:
            read = os.read(self._terminal, 64 * 1024)
        except OSError:
            return b""  # the other end is closed
        self.shown += read
        return read


@contextmanager
def terminal(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Seat]:
    """Run a program as the leader of a new terminal, in its foreground."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *words],
        env={**environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seat = Seat(process, ours)
    try:
        yield seat
    finally:
        seat.leave()


def _runs(process: psutil.Process) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
