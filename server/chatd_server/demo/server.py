"""A process of `chatd serve` that can be killed and restarted."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from pathlib import Path

from chatd_client import Client, Endpoint, Unavailable
from chatd_server.clock import RealClock

STARTS_MAX = 100
"""Tries to reach a server that starts, with growing pauses: about a minute."""

STOP_SECONDS_MAX = 15.0
"""How long a server may take to stop before it is killed: its disk may be slow."""


class ServerProcess:
    """`chatd serve` on a loopback port, with a home folder of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: Process | None = None
        self.port = _free_port()
        self._is_killed = False

    @property
    def key(self) -> str:
        """The root key that the server wrote at its first start."""
        return (self._home / "root.key").read_text().strip()

    def check(self) -> None:
        """Raise Unavailable if the process has exited by itself."""
        if self._process is None or self._is_killed or self._process.returncode is None:
            return
        raise Unavailable("the server of the demo has exited. To start again: make run")

    async def start(self) -> None:
        """Start it and wait until it answers. Raises Unavailable with what it printed."""
        self._is_killed = False
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CHATD_")}
        log = (self._home / "server.log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chatd_server", "serve"),
                # A stop need not wait for the answers in progress.
                *("--port", str(self.port), "--drain-seconds", "0"),
                env={**environment, "CHATD_HOME": str(self._home)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Not in the terminal's session: Ctrl-C is meant for the chat.
                start_new_session=True,
            )
        await self._reached()

    async def kill(self) -> None:
        """Send SIGKILL."""
        assert self._process is not None
        self._is_killed = True
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Send SIGTERM. Does nothing if the process has exited."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with RealClock().timeout(STOP_SECONDS_MAX, "demo.stop"):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def _reached(self) -> None:
        assert self._process is not None
        async with Client(
            endpoint=Endpoint(f"127.0.0.1:{self.port}", key=""), retry_seconds=1
        ) as client:
            for _ in range(STARTS_MAX):
                if self._process.returncode is not None:
                    break
                try:
                    await client.server_info()
                except Unavailable:
                    continue
                return
        raise Unavailable(f"the server did not start:\n{self._printed()}")

    def _printed(self) -> str:
        return (self._home / "server.log").read_text(errors="replace")[-4000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
