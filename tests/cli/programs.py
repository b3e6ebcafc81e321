"""Real processes of `chatd`, which never outlive the test."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-c", "from chatd_server.cli import main; main()"]

WORDS_OF_GRPC = ("ipv4:", "connect to", "UNAVAILABLE", "errno", "Socket closed", "DEADLINE")
"""Messages of grpc for a server that is not there; they do not help a person."""

SECONDS_MAX = 30
"""More than any of these commands needs on a slow machine."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return this process's environment without settings of chatd, and with a home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATD_")}
    # A terminal of one width, without colours.
    return {**kept, "CHATD_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", **more}


def chatd(
    home: Path, *arguments: str, typed: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with this standard input."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(home, **more),
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


@dataclass
class Serving:
    """A server in its own process."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    log: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.facts["address"])

    @property
    def port(self) -> str:
        """Its port."""
        return self.address.rpartition(":")[2]

    def logged(self) -> list[str]:
        """Return what it has written to standard error."""
        return self.log.read_text(encoding="utf-8").splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS_MAX)


@contextmanager
def serving(home: Path, *arguments: str, **more: str) -> Iterator[Serving]:
    """Run `chatd serve` on a free port until the context is left."""
    # A pipe that nobody reads would block a server that logs a lot.
    with tempfile.NamedTemporaryFile(prefix="chatd-serve-", suffix=".log") as errors:
        # The shell of the tests may make them ignore Ctrl-C, and a server would inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(
                [*PROGRAM, "serve", "--port", "0", "--json", *arguments],
                env=environment(home, **more),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        log = Path(errors.name)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            facts = json.loads(line) if line else {}
            if "address" not in facts:
                said = line + log.read_text(encoding="utf-8")
                raise AssertionError(f"chatd serve did not start: {said}")
            yield Serving(process, facts, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()
