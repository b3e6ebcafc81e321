"""Programs on a terminal of their own: the kernel makes signals of Ctrl-C and of hanging up."""

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

# What a login does: the terminal belongs to the session. And nothing ignores Ctrl-C, which a shell
# asks of what it runs in its background: these tests, it may be.
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
"""What a terminal gets when a line is asked for: it is to mark what is pasted."""
ANSWER = "\x1b[?2004l"
"""What it gets when the line has come; what follows is the answer, and not the echo."""
UP, LEFT = b"\x1b[A", b"\x1b[D"


@dataclass
class Seat:
    """A person at a terminal, and the program that leads its session."""

    process: subprocess.Popen[bytes]
    _terminal: int
    shown: bytes = b""
    #: Where `until` goes on to look.
    _seen: int = 0
    #: Every process that was started here, as far as `note_processes` saw it.
    _processes: list[psutil.Process] = field(default_factory=list)

    def types(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def until(self, words: str) -> None:
        """Read until these words are shown, after those that were waited for before."""
        wanted = words.encode()
        while (at := self.shown.find(wanted, self._seen)) < 0:
            assert self._read(), f"{words!r} was not shown after {self.shown[self._seen :]!r}"
        self._seen = at + len(wanted)

    def settings(self) -> list[object]:
        """Return how the terminal is set: what a program must leave as it was."""
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
        """Wait for the end and return the exit code; what is shown is read meanwhile."""
        while self._terminal >= 0 and self._read():
            pass
        return self.process.wait(SECONDS_MAX)

    def leave(self) -> None:
        """Leave nothing behind, whatever came of the test."""
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
            return b""  # nobody holds the other end any more
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
    """Say whether a process runs; one that only waits to be counted does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
