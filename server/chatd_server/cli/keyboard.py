"""What a person types while the event loop runs: lines, and Ctrl-C."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHUNK_BYTES = 64 * 1024


class Lines:
    """Lines of standard input. A wait for one can be cancelled, and blocks nothing else."""

    def __init__(self) -> None:
        # Python has no standard input where the shell has closed it.
        self._file = None if sys.stdin is None else sys.stdin.fileno()
        self._rest = b""

    async def next(self) -> bytes | None:
        """Return the next line without its end; None at the end of input."""
        while b"\n" not in self._rest:
            chunk = await self._chunk()
            if not chunk:
                rest, self._rest = self._rest, b""
                return rest or None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def _chunk(self) -> bytes:
        """Return what can be read; nothing at the end of input, or when the terminal is gone."""
        if self._file is None:
            return b""
        await _readable(self._file)
        try:
            return os.read(self._file, _CHUNK_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""


async def _readable(file: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(file, readable.set)
    except PermissionError:
        return  # a plain file, which can be read at any time
    try:
        await readable.wait()
    finally:
        loop.remove_reader(file)


@contextmanager
def on_signals(act: Callable[[int], bool], *numbers: signal.Signals) -> Iterator[None]:
    """Call `act` on the event loop for each signal, until the context is left.

    When `act` returns False, the signal does what it did before. A signal that is ignored stays so:
    that is how a shell without job control and `nohup` protect what they start.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in numbers}
    heard = {number: it for number, it in before.items() if it is not signal.SIG_IGN}

    is_over = False

    def on_loop(number: int) -> None:
        handler = before[signal.Signals(number)]
        if not is_over and not act(number) and callable(handler):
            handler(number, None)

    try:
        for number in heard:
            signal.signal(number, lambda it, _: loop.call_soon_threadsafe(on_loop, it))
        yield
    finally:
        is_over = True
        for number, handler in heard.items():
            signal.signal(number, handler)
