"""Real server processes, started, killed and restarted as an operator would do it."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.blackbox.waits import START_SECONDS, within

CHATD = Path(sys.executable).with_name("chatd")
# A killed worker's chats are released after this time, so that a storm has many rescues.
LEASES = {
    "CHATD_LEASE_SECONDS": "3",
    "CHATD_LEASE_HEARTBEAT_SECONDS": "0.5",
    "CHATD_POLL_SECONDS": "0.2",
}


@dataclass
class Server:
    """One `chatd serve`; it keeps its home and its port over restarts."""

    home: Path
    database_url: str = ""
    port: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    life: int = 0
    """Even while it is down, odd while it runs; it changes with each restart."""
    _process: Process | None = None
    _known: int = field(default=0, repr=False)
    """How many bytes of standard error were read."""

    @property
    def address(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The key that the first start created."""
        return (self.home / "root.key").read_text().strip()

    @property
    def errors(self) -> Path:
        """The file with its standard error."""
        return self.home / "stderr.log"

    async def start(self) -> None:
        """Start the process and wait until it prints its address."""
        self.home.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATD_")}
        words = ["serve", "--json", "--port", str(self.port), "--home", str(self.home)]
        if self.database_url:
            words += ["--migrate"]
            kept["CHATD_DATABASE_URL"] = self.database_url
        with self.errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                CHATD,
                *words,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=errors,
                env={**kept, **LEASES, **self.settings},
            )
        assert self._process.stdout is not None
        line = await within(START_SECONDS, self._process.stdout.readline())
        assert line, f"chatd serve ended at once: {self.errors.read_text()[-2000:]}"
        self.port = int(json.loads(line)["address"].rpartition(":")[2])
        self.life += 1

    def lives(self, life: int) -> bool:
        """Return whether it has run without interruption in this life."""
        return self.life == life and life % 2 == 1

    async def kill(self) -> None:
        """Send SIGKILL, without a drain."""
        self.life += 1
        await self._signal(signal.SIGKILL)

    async def stop(self) -> int:
        """Send SIGTERM twice, which stops it at once, and return the exit code."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self._signal(signal.SIGTERM)

    async def _signal(self, number: int) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await within(START_SECONDS, self._process.wait())

    def memory(self) -> int:
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def complaints(self) -> list[str]:
        """Return the new lines of standard error that are not JSON or report a defect."""
        with self.errors.open("rb") as log:
            log.seek(self._known)
            # The newest line may be incomplete, also because of SIGKILL.
            whole, newline, _ = log.read().rpartition(b"\n")
        self._known += len(whole) + len(newline)
        lines = whole.decode(errors="replace").split("\n") if whole else []
        return [line for line in lines if _is_complaint(line)]


def _is_complaint(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return True
    return not isinstance(entry, dict) or entry.get("level") in {"error", "critical"}
