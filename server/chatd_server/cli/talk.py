"""`chatd chat`, `chatd send` and `chatd tail`: talk to a server from a terminal.

Built on the public client and on nothing else.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from rich.console import Console

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import (
    ChatdError,
    ChatHandle,
    Client,
    Conflict,
    InvalidRequest,
    PermissionDenied,
    Reconnect,
    Unavailable,
)
from chatd_server.cli.transcript import Transcript

EXIT_REFUSED = 1
"""The server said no, or cannot be reached, or the turn failed."""

Address = Annotated[
    str | None, typer.Option(help="host:port of the server; else CHATD_ADDRESS.", metavar="ADDRESS")
]
Key = Annotated[
    str | None,
    typer.Option(help="API key; else CHATD_KEY, else the root key of CHATD_HOME.", metavar="KEY"),
]
ModelName = Annotated[str, typer.Option(help='"provider/model"; else the server\'s default.')]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the main program."""
    app.command()(chat)
    app.command()(send)
    app.command()(tail)


def chat(
    chat_id: Annotated[str, typer.Argument(help="A chat to go on with; else a new one.")] = "",
    model: ModelName = "",
    address: Address = None,
    key: Key = None,
) -> None:
    """Talk to a chat. Ctrl-C stops the answer, Ctrl-D leaves."""
    _run(lambda client: converse(client, chat_id, model), address, key)


def send(
    text: Annotated[str, typer.Argument(help='What to say; "-" reads standard input.')],
    chat_id: Annotated[str, typer.Option("--chat", help="The chat; else a new one.")] = "",
    model: ModelName = "",
    wait: Annotated[bool, typer.Option(help="Follow the answer to its end.")] = True,
    json: Json = False,
    address: Address = None,
    key: Key = None,
) -> None:
    """Send one message and print the answer."""
    words = _words(text)
    _run(lambda client: _send(client, words, chat_id, model, wait=wait, json=json), address, key)


def tail(
    chat_id: Annotated[str, typer.Argument(help="The chat.")],
    until_settled: Annotated[bool, typer.Option(help="End when the chat is idle.")] = False,
    json: Json = False,
    address: Address = None,
    key: Key = None,
) -> None:
    """Print what happened in a chat, and what happens."""
    until = (
        chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED
        if until_settled
        else chat_service_pb2.SUBSCRIBE_UNTIL_FOREVER
    )

    async def follow(client: Client) -> None:
        await _print(client.chat(chat_id).follow(until=until), json=json)

    _run(follow, address, key)


def _words(text: str) -> str:
    """Return what to say; leaves when it is nothing, or no text."""
    try:
        words = sys.stdin.read() if text == "-" else text
        words.encode()
    except UnicodeError:
        raise typer.BadParameter("what to say must be UTF-8") from None
    if not words.strip():
        raise typer.BadParameter("there is nothing to say")
    return words


async def converse(client: Client, chat_id: str = "", model: str = "") -> None:
    """Hold a conversation until the end of input."""
    console = Console()
    handle = client.chat(chat_id) if chat_id else await client.create_chat(model=model)
    transcript = Transcript(console, show_own=bool(chat_id))
    if chat_id:
        settled = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
        async for response in handle.follow(until=settled):
            transcript.show(response)
    else:
        chat = await handle.get()
        transcript.line(f"chat {handle.id}, {chat.model}. Ctrl-C stops an answer, Ctrl-D leaves.")
    transcript.show_own = False
    while (words := _ask(console)) is not None:
        if not words.strip():
            continue
        try:
            await _answered(handle, words, transcript)
        except (Conflict, InvalidRequest) as refusal:
            transcript.line(f"  ✗ {refusal}", "red")


async def _answered(handle: ChatHandle, words: str, transcript: Transcript) -> None:
    """Send and show the answer; Ctrl-C interrupts the turn and not the program."""
    loop = asyncio.get_running_loop()
    interrupts: set[asyncio.Task[bool]] = set()

    def interrupt() -> None:
        interrupts.add(asyncio.ensure_future(handle.interrupt()))

    with contextlib.suppress(NotImplementedError):  # no signal handlers on this platform
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        async for response in handle.run(words, raise_on_error=False):
            transcript.show(response)
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*interrupts, return_exceptions=True)


def _ask(console: Console) -> str | None:
    """Wait for a line in the main thread, which alone Ctrl-C reaches; no stream is open now.

    A line that is no text is told, and gives an empty one.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        words = console.input("[bold]> [/bold]")
        words.encode()
        return words
    except UnicodeError:
        console.print("  ✗ what to say must be UTF-8", style="red", highlight=False)
        return ""
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    finally:
        signal.signal(signal.SIGINT, before)


async def _send(
    client: Client, words: str, chat_id: str, model: str, *, wait: bool, json: bool
) -> None:
    if chat_id:
        handle = client.chat(chat_id)
    else:
        handle = await client.create_chat(model=model)
    options = chat_pb2.TurnOptions(model=model)
    if wait:
        if not chat_id and not json:
            Console(stderr=True).print(f"chat {handle.id}", style="dim", highlight=False)
        responses = handle.run(words, options=options, raise_on_error=False)
        status = await _print(responses, json=json, show_own=False)
        if status == chat_pb2.CHAT_STATUS_ERROR:
            raise typer.Exit(EXIT_REFUSED)
        return
    response = await handle.send(words, options=options)
    sys.stdout.write(_as_json(response) + "\n" if json else f"{handle.id}\n")


async def _print(
    responses: AsyncIterator[chat_service_pb2.SubscribeResponse],
    *,
    json: bool,
    show_own: bool = True,
) -> chat_pb2.ChatStatus.ValueType:
    """Print what comes, and return the status that the chat had last."""
    transcript = Transcript(Console(), show_own=show_own)
    status = chat_pb2.CHAT_STATUS_UNSPECIFIED
    async for response in responses:
        if response.event.HasField("status_changed"):
            status = response.event.status_changed.status
        if json:
            sys.stdout.write(_as_json(response) + "\n")
            sys.stdout.flush()
        else:
            transcript.show(response)
    return status


def _as_json(message: Any) -> str:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False)


def _run(
    work: Callable[[Client], Coroutine[Any, Any, None]], address: str | None, key: str | None
) -> None:
    try:
        asyncio.run(_with_client(work, address, key))
    except ChatdError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"chatd: {_advice(error)}", style="red", highlight=False, markup=False
        )
        raise typer.Exit(EXIT_REFUSED) from error
    except (KeyboardInterrupt, BrokenPipeError) as stopped:
        raise typer.Exit(EXIT_REFUSED) from stopped


async def _with_client(
    work: Callable[[Client], Coroutine[Any, Any, None]], address: str | None, key: str | None
) -> None:
    def say(reconnect: Reconnect) -> None:
        words = f"… {reconnect.cause}; trying again in {reconnect.delay_seconds:.1f} s"
        Console(stderr=True).print(words, style="dim", highlight=False)

    async with Client(address, key, on_reconnect=say) as client:
        await work(client)


def _advice(error: ChatdError) -> str:
    """Return what went wrong and what to do about it."""
    words = [str(error)]
    if isinstance(error, Unavailable) and not error.reason:
        words.append("Is the server running? Start it with: chatd serve")
    elif isinstance(error, PermissionDenied):
        words.append("Give a key by --key, CHATD_KEY, or the root.key of CHATD_HOME.")
    return "\n".join(words)
