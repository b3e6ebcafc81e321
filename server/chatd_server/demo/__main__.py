"""`python -m chatd_server.demo`: start a server, play the acts, then talk on a terminal."""

import asyncio
import errno
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from chatd_client import ChatdError, Client, Reconnect, Unavailable
from chatd_server.cli.conversation import converse
from chatd_server.cli.exits import Exit
from chatd_server.cli.keyboard import on_signals
from chatd_server.cli.transcript import Transcript
from chatd_server.demo.acts import ACTS, Act, ActFailed, Stage, get_weather
from chatd_server.demo.cutter import Cutter
from chatd_server.demo.server import ServerProcess

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def play(console: Console, acts: Sequence[tuple[str, Act]] = ACTS) -> bool:
    """Play the acts until one fails; return whether all succeeded."""
    is_watched = console.is_terminal
    with tempfile.TemporaryDirectory(prefix="chatd-demo-") as home:
        async with _staged(Path(home), console) as stage:
            for name, act in acts:
                if is_watched:
                    console.rule(f"[bold]{name}", align="left")
                try:
                    proof = await act(stage)
                except (ActFailed, ChatdError) as failed:
                    console.print(f"✗ {name}: {failed}", style="red", highlight=False)
                    return False
                console.print(f"✓ {name}: {proof}", style="green", highlight=False)
            if is_watched:
                console.rule("[bold]your turn", align="left")
                console.print("The model is a sandbox. Say hello, and it tells you what it can do.")
                await converse(stage.client)
    return True


@asynccontextmanager
async def _staged(home: Path, console: Console) -> AsyncIterator[Stage]:
    """Start a server and a chat; stop the server at the end."""
    server = ServerProcess(home)
    transcript = Transcript(console)
    reconnects: list[Reconnect] = []

    def on_reconnect(reconnect: Reconnect) -> None:
        reconnects.append(reconnect)
        server.check()
        if console.is_terminal:
            transcript.line("  ⟲ the stream was cut; resuming", "dim")

    try:
        await server.start()
        async with (
            Cutter(server.port) as cutter,
            Client(cutter.address, server.key, on_reconnect=on_reconnect) as client,
        ):
            chat = await client.create_chat(model="sandbox/echo", tools=[get_weather])
            show = transcript.show if console.is_terminal else _show_nothing
            yield Stage(server, cutter, client, chat, show, reconnects)
    except Unavailable:
        server.check()
        raise
    finally:
        await server.stop()


def _show_nothing(_: object) -> None:
    """Without a terminal, the lines of the acts are enough."""


async def _played(acts: Sequence[tuple[str, Act]]) -> int:
    """Play, always clean up, and return the exit code."""
    ended_by: list[int] = []
    whole = asyncio.current_task()
    assert whole is not None

    def end(number: int) -> bool:
        # Only the first signal counts: a second one must not stop the clean-up.
        if not ended_by:
            ended_by.append(number)
            whole.cancel()
        return True

    with on_signals(end, *_ENDS):
        try:
            return 0 if await play(Console(), acts) else Exit.FAILED
        except ChatdError as error:
            Console(stderr=True).print(f"chatd: {error}", style="red", highlight=False)
            return Exit.FAILED
        except asyncio.CancelledError:
            return 128 + ended_by[0]
        except OSError as error:
            # The terminal, or the reader of the pipe, is gone.
            if error.errno not in {errno.EIO, errno.EPIPE}:
                raise
            return 128 + signal.SIGHUP


def main(acts: Sequence[tuple[str, Act]] = ACTS) -> None:
    """Play; exit 1 at the first act that fails, 128 + n for signal n."""
    code = asyncio.run(_played(acts))
    try:
        sys.stdout.flush()
    except OSError:
        # Python flushes again when it exits, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
