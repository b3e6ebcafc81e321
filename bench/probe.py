"""The product's server with a probe in its event loop that measures the longest callback.

Run as a program, it takes `--home`, serves until SIGTERM, and prints its own address and the
probe's: each connection to the probe gets the longest callbacks since the previous one.

It runs on asyncio's own loop, where every callback passes one function; uvloop's cannot be watched.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
import time
from asyncio import events
from collections import Counter
from types import FrameType
from typing import Any

import msgspec

from bench.servers import RUNS_MAX
from chatd_server.app.server import App
from chatd_server.cli.logs import set_up_logs
from chatd_server.cli.serve import run
from chatd_server.config.load import load

LOOK_SECONDS = 0.004
"""Interval between two samples of a long callback's stack."""
LONG_SECONDS = 0.008
"""Shorter callbacks are not sampled."""
OURS = "chatd_server"
"""Frames of this package name the place best."""


class Longest(msgspec.Struct):
    """The longest callbacks of a period, by CPU and by wall time."""

    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    #: The callback with the most CPU time: its name, and where it was in most samples.
    where: str = ""
    callbacks: int = 0


class Probe:
    """Watches every callback of the loop in the thread that created it."""

    def __init__(self) -> None:
        self._longest = Longest()
        self._thread = threading.get_ident()
        self._began = 0.0
        self._number = 0
        self._seen: Counter[str] = Counter()
        self._seen_of = -1
        self._lock = threading.Lock()

    def install(self) -> None:
        """Start to watch the loops of this thread."""
        plain = events.Handle._run  # noqa: SLF001  the one place that every callback passes

        def watched(handle: events.Handle) -> None:
            self._number += 1
            self._began = wall = time.perf_counter()
            cpu = time.thread_time_ns()
            try:
                plain(handle)
            finally:
                spent = (time.thread_time_ns() - cpu) / 1e6
                self._began = 0.0
                self._ended(handle, spent, (time.perf_counter() - wall) * 1e3)

        setattr(events.Handle, "_run", watched)  # noqa: B010  mypy forbids the assignment
        threading.Thread(target=self._look, daemon=True).start()

    def take(self) -> Longest:
        """Return the longest callbacks since the last call."""
        with self._lock:
            longest, self._longest = self._longest, Longest()
        return longest

    def _ended(self, handle: events.Handle, cpu_ms: float, wall_ms: float) -> None:
        with self._lock:
            longest = self._longest
            longest.callbacks += 1
            longest.wall_ms = max(longest.wall_ms, wall_ms)
            if cpu_ms > longest.cpu_ms:
                longest.cpu_ms = cpu_ms
                longest.where = self._place(handle)

    def _place(self, handle: events.Handle) -> str:
        looks = self._seen if self._seen_of == self._number else Counter[str]()
        places = [f"{place} ({count})" for place, count in looks.most_common(2)]
        return "; ".join([_name(handle), *places])

    def _look(self) -> None:
        """Sample the place of a long callback, a few times in a row."""
        while True:
            time.sleep(LOOK_SECONDS)
            began, number = self._began, self._number
            if not began or time.perf_counter() - began < LONG_SECONDS:
                continue
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001  documented in `sys`
            if number != self._seen_of:
                self._seen_of, self._seen = number, Counter()
            self._seen[_innermost(frame)] += 1


def _innermost(frame: FrameType | None) -> str:
    """Return our innermost function and what it has called."""
    called = ""
    while frame is not None:
        code = frame.f_code
        name = f"{frame.f_globals.get('__name__', '?')}.{code.co_qualname}"
        if name.startswith(OURS):
            return f"{name.removeprefix(OURS + '.')}:{frame.f_lineno}{called}"
        called = called or f" in {name}"
        frame = frame.f_back
    return called.strip() or "?"


def _name(handle: events.Handle) -> str:
    """Name a callback; for a task, the place where it waits."""
    callback: Any = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", repr(callback)))
    names: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None and hasattr(awaited, "__qualname__"):
        names.append(str(awaited.__qualname__))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return " > ".join(names[-2:])


def _serve(probe: Probe) -> str:
    """Answer on a separate port from a thread, so that the probe adds no work to the loop."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(msgspec.json.encode(probe.take()))

    threading.Thread(target=answer, daemon=True).start()
    return f"127.0.0.1:{listening.getsockname()[1]}"


def main() -> None:
    """Serve, and print the addresses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    given = parser.parse_args()
    flags = {
        "home": given.home,
        "port": 0,
        "runs_max": RUNS_MAX,
        "drain_seconds": 1.0,
        "log_level": "error",
    }
    config = load(flags, os.environ).config
    set_up_logs(config)
    probe = Probe()

    def announce(app: App) -> None:
        told = {
            "address": app.address,
            "probe": _serve(probe),
            "root_key_file": str(app.config.root_key_path),
        }
        probe.take()
        print(json.dumps(told), flush=True)

    probe.install()
    asyncio.run(run(config, announce))


if __name__ == "__main__":
    main()
