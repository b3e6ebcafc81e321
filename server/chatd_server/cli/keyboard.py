"""Input while the event loop runs: lines, edited on a terminal, and signals."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_CHUNK_BYTES = 64 * 1024


class Lines(Protocol):
    """A source of lines. A wait for one can be cancelled, and does not block the loop."""

    async def next(self) -> str | None:
        """Ask for a line and return it without its end; None at the end of input.

        Raises UnicodeError for a line that is not UTF-8.
        """

    def kept(self) -> AbstractContextManager[None]:
        """Keep what is typed between two lines for the next one."""


def lines(prompt: str) -> Lines:
    """Return the lines of standard input; a terminal has a prompt and editing."""
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        return EditedLines(prompt)
    return PlainLines()


class EditedLines:
    """Lines of a terminal, with editing and history. Ctrl-C is left to the caller as SIGINT."""

    def __init__(self, prompt: str) -> None:
        # Only a conversation needs it, and it takes longer to load than most commands run.
        from prompt_toolkit import PromptSession
        from prompt_toolkit.formatted_text import FormattedText
        from prompt_toolkit.output.vt100 import Vt100_Output

        # A terminal's reply to a query of the cursor may reach the next program.
        screen = Vt100_Output.from_pty(sys.stdout)
        screen.enable_cpr = False
        bold = FormattedText([("bold", prompt)])
        self._session = PromptSession[str](
            bold, output=screen, enable_suspend=True, key_bindings=_own_keys()
        )

    async def next(self) -> str | None:
        """Return the next line; None at Ctrl-C, at Ctrl-D on an empty line, without terminal."""
        try:
            line = await self._session.prompt_async(handle_sigint=False)
        except (EOFError, KeyboardInterrupt):
            return None
        line.encode()
        return line

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the keys for the next prompt: the terminal does not show them, and Ctrl-D does not
        end the input. Ctrl-C and Ctrl-Z stay signals.
        """
        # Not every system has these modules, and other commands do not need them.
        import termios
        import tty

        file = sys.stdin.fileno()
        before = termios.tcgetattr(file)
        quiet = termios.tcgetattr(file)
        quiet[tty.IFLAG] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR)
        quiet[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        quiet[tty.CC][termios.VMIN] = 1
        termios.tcsetattr(file, termios.TCSANOW, quiet)
        try:
            yield
        finally:
            with suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(file, termios.TCSANOW, before)


def _own_keys() -> "KeyBindings":
    """Return our key bindings: Ctrl-C clears a line with text (on an empty line it quits), and a
    Ctrl-D that was typed before the first prompt quits.
    """
    from prompt_toolkit.application import get_app
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import Condition, has_focus
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    has_words = Condition(lambda: bool(get_app().current_buffer.text))

    @bindings.add("c-c", filter=has_focus(DEFAULT_BUFFER) & has_words)
    def _(event: "KeyPressEvent") -> None:
        event.current_buffer.reset()

    # The terminal was still in line mode, and kept the key as the byte 0.
    @bindings.add("c-@", filter=has_focus(DEFAULT_BUFFER) & ~has_words)
    def _(event: "KeyPressEvent") -> None:
        event.app.exit(exception=EOFError)

    return bindings


class PlainLines:
    """Lines of a pipe or a file."""

    def __init__(self) -> None:
        # Python has no standard input where the shell has closed it.
        self._file = None if sys.stdin is None else sys.stdin.fileno()
        self._encoding = "utf-8" if sys.stdin is None else sys.stdin.encoding
        self._rest = b""

    async def next(self) -> str | None:
        """Return the next line without its end; None at the end of input."""
        while b"\n" not in self._rest:
            chunk = await self._chunk()
            if not chunk:
                rest, self._rest = self._rest, b""
                return rest.decode(self._encoding) if rest else None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(self._encoding)

    def kept(self) -> AbstractContextManager[None]:
        """Do nothing: a pipe keeps its content."""
        return nullcontext()

    async def _chunk(self) -> bytes:
        """Read a chunk; empty at the end of input, or when the terminal is gone."""
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

    When `act` returns False, the earlier handler runs. An ignored signal stays ignored: `nohup` and
    shells without job control protect programs in this way.
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
