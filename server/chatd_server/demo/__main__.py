"""`python -m chatd_server.demo`: start a server, play the acts, and talk if somebody is there."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from chatd_client import ChatdError, Client, Reconnect
from chatd_server.cli.talk import converse
from chatd_server.cli.transcript import Transcript
from chatd_server.demo.acts import ACTS, Act, ActFailed, Stage, get_weather
from chatd_server.demo.cutter import Cutter
from chatd_server.demo.server import ServerProcess


async def play(console: Console, acts: Sequence[tuple[str, Act]] = ACTS) -> bool:
    """Play the acts until one fails; say whether every one held."""
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
                console.print("The model is a sandbox: say hello, and it tells you what it can do.")
                await converse(stage.client)
    return True


@asynccontextmanager
async def _staged(home: Path, console: Console) -> AsyncIterator[Stage]:
    """Start a server and a chat, and leave no process behind."""
    server = ServerProcess(home)
    transcript = Transcript(console)
    reconnects: list[Reconnect] = []

    def on_reconnect(reconnect: Reconnect) -> None:
        reconnects.append(reconnect)
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
    finally:
        await server.stop()


def _show_nothing(_: object) -> None:
    """Nobody watches: the acts' own lines are enough."""


def main() -> None:
    """Play, and exit 1 at the first act that fails."""
    try:
        held = asyncio.run(play(Console()))
    except ChatdError as error:
        Console(stderr=True).print(f"chatd: {error}", style="red", highlight=False)
        held = False
    except KeyboardInterrupt:
        held = False
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
