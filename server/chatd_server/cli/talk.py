"""`chatd chat`, `send`, `edit`, `retry`, `tail` and `interrupt`. On the public client."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from rich.console import Console

from chatd.v1 import chat_service_pb2, message_pb2
from chatd_client import Client, TurnFailed
from chatd_client.turn import OwnTurn, text_of
from chatd_server.cli.conversation import converse
from chatd_server.cli.exits import TURN_FAILED, WAITING_FOR_TOOLS, Exit, Failed
from chatd_server.cli.keyboard import on_signals
from chatd_server.cli.options import (
    Address,
    ConfigFile,
    Home,
    Json,
    JsonLines,
    Key,
    RetrySeconds,
)
from chatd_server.cli.past import failed_turns
from chatd_server.cli.reach import GaveUp, Server, run
from chatd_server.cli.sending import (
    UNTIL_ANSWERED,
    Sent,
    edited,
    retried,
    sent,
    what_it_waits_for,
    why_it_waits,
)
from chatd_server.cli.transcript import Transcript

ModelName = Annotated[str, typer.Option(help='"provider/model"; default: the server\'s.')]


def register(app: typer.Typer) -> None:
    for command in (chat, send, tail, interrupt, edit, retry):
        app.command()(command)


def chat(
    chat_id: Annotated[str, typer.Argument(help="Chat to continue; default: a new one.")] = "",
    model: ModelName = "",
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Hold a conversation. Ctrl-C stops the answer, or clears the line; on an empty line, Ctrl-C
    or Ctrl-D quits. /queue, /edit and /retry do what these commands do; /help lists them.
    """
    server = Server(address, key, config, home, retry_seconds)
    run(lambda client: _conversation(client, chat_id, model), server)


def send(
    text: Annotated[str, typer.Argument(help='The message; "-" reads standard input.')],
    chat_id: Annotated[
        str, typer.Option("--chat", help="Chat to send to; default: a new one.")
    ] = "",
    model: ModelName = "",
    wait: Annotated[bool, typer.Option(help="Wait for the answer.")] = True,
    as_json: JsonLines = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Send a message and print the answer; in a pipe only the final answer, and everything else on
    standard error. Ctrl-C quits; the server continues the answer.
    """
    words = _words(text)
    server = Server(address, key, config, home, retry_seconds)
    run(lambda client: _send(client, words, chat_id, model, wait=wait, as_json=as_json), server)


def tail(
    chat_id: Annotated[str, typer.Argument(help="The chat.")],
    until_settled: Annotated[bool, typer.Option(help="End when the chat is idle.")] = False,
    as_json: JsonLines = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Print what happened in a chat, and follow it. Ctrl-C quits."""
    until = (
        chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED
        if until_settled
        else chat_service_pb2.SUBSCRIBE_UNTIL_FOREVER
    )

    async def follow(client: Client) -> None:
        failed = {} if as_json else await failed_turns(client, chat_id)
        show = _print_json if as_json else Transcript(Console(), failed=failed).show
        async for response in client.chat(chat_id).follow(until=until):
            show(response)

    run(follow, Server(address, key, config, home, retry_seconds))


def interrupt(
    chat_id: Annotated[str, typer.Argument(help="The chat.")],
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Stop the open turn of a chat. What it produced is kept."""

    async def stop(client: Client) -> None:
        was_open = await client.chat(chat_id).interrupt()
        if as_json:
            print(json.dumps({"interrupted": was_open}))
        else:
            print("interrupted" if was_open else "no turn was open")

    run(stop, Server(address, key, config, home, retry_seconds))


def edit(
    chat_id: Annotated[str, typer.Argument(metavar="CHAT", help="The chat.")],
    message_id: Annotated[
        str, typer.Argument(metavar="MESSAGE", help="Id of a message of yours in the chat.")
    ],
    text: Annotated[str, typer.Argument(help='What to say instead; "-" reads standard input.')],
    model: ModelName = "",
    wait: Annotated[bool, typer.Option(help="Follow the answer to its end.")] = True,
    as_json: JsonLines = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Replace a message and all after it, and print the answer as `chatd send` does. An open turn
    is cut, and the queue is emptied.
    """
    words = _words(text)

    async def replace(client: Client) -> None:
        message = await edited(client.chat(chat_id), message_id, words, model)
        await answered(message, wait=wait, as_json=as_json)

    run(replace, Server(address, key, config, home, retry_seconds))


def retry(
    chat_id: Annotated[str, typer.Argument(metavar="CHAT", help="The chat.")],
    wait: Annotated[bool, typer.Option(help="Follow the answer to its end.")] = True,
    as_json: JsonLines = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Run the failed turn of a chat again, and print the answer as `chatd send` does."""

    async def again(client: Client) -> None:
        await answered(await retried(client.chat(chat_id)), wait=wait, as_json=as_json)

    run(again, Server(address, key, config, home, retry_seconds))


def _words(text: str) -> str:
    """Raises BadParameter for a message that is empty or not UTF-8."""
    try:
        words = _standard_input() if text == "-" else text
        words.encode()
    except UnicodeError:
        raise typer.BadParameter("the message must be UTF-8") from None
    if not words.strip():
        raise typer.BadParameter("the message is empty")
    return words


def _standard_input() -> str:
    """Return all of standard input; empty if the shell has closed it."""
    return "" if sys.stdin is None else sys.stdin.read()


async def _conversation(client: Client, chat_id: str, model: str) -> None:
    """Hold a conversation; on SIGTERM, restore the terminal, then exit."""
    is_ended = False
    whole = asyncio.current_task()
    assert whole is not None

    def end(_: int) -> bool:
        nonlocal is_ended
        is_ended = True
        return whole.cancel()

    with on_signals(end, signal.SIGTERM):
        try:
            await converse(client, chat_id, model)
        except asyncio.CancelledError:
            if not is_ended:
                raise
            raise typer.Exit(int(Exit.TERMINATED)) from None


# --- one message -----------------------------------------------------------------------------


async def _send(
    client: Client, words: str, chat_id: str, model: str, *, wait: bool, as_json: bool
) -> None:
    message = await sent(client, words, chat_id, model)
    await answered(message, is_new=not chat_id, wait=wait, as_json=as_json)


async def answered(message: Sent, *, is_new: bool = False, wait: bool, as_json: bool) -> None:
    """Print the answer to what was sent, when it is there; without `wait` only the chat.

    Raises Failed when there is none.
    """
    chat = message.handle
    notes = Console(stderr=True, soft_wrap=True, highlight=False)
    if not wait:
        if why := await why_it_waits(message):
            notes.print(why, style="magenta", markup=False)
        print(_as_json(message.response) if as_json else chat.id)
        return
    if is_new and not as_json:
        notes.print(f"chat {chat.id}", style="dim")
    # Live text may become void, so only a person gets it.
    is_live = sys.stdout is not None and sys.stdout.isatty()
    transcript = Transcript(Console() if is_live else None, show_own=False, notes=notes)
    try:
        answer = await _answer(message, _print_json if as_json else transcript.show)
    except GaveUp as gone:
        later = f"`chatd tail {chat.id}` shows the answer once the server is back"
        raise GaveUp(f"{gone}. The server has the message: {later}") from gone
    except TurnFailed as failure:
        if as_json or failure.is_queued:
            raise Failed(_why(failure), Exit.FAILED, TURN_FAILED) from failure
        raise typer.Exit(int(Exit.FAILED)) from failure  # the transcript shows why
    if answer and not as_json and not is_live:
        print(answer)


async def _answer(message: Sent, show: Callable[[chat_service_pb2.SubscribeResponse], None]) -> str:
    """Show what happens until the message has its answer, and return the answer.

    Raises ChatdError when its turn fails, and Failed when it waits for another program.
    """
    turn, answer = OwnTurn(message.message_id, message.turn_id), ""
    async for response in message.handle.follow(cursor=message.cursor, until=UNTIL_ANSWERED):
        show(response)
        turn.apply(response.event)
        committed = response.event.message_committed.message
        if turn.is_open and committed.role == message_pb2.ROLE_ASSISTANT:
            answer = text_of(committed)
    failure = turn.failure()
    if failure is not None:
        raise failure
    if turn.is_over:
        return answer
    action = await message.handle.pending_action()
    waits = (
        "the chat waited for results of client tools, and now continues"
        if action is None
        else what_it_waits_for(action)
    )
    raise Failed(
        f"no answer yet: {waits}. `chatd tail {message.handle.id}` shows the answer when it comes",
        Exit.WAITING,
        WAITING_FOR_TOOLS,
    )


def _why(failure: TurnFailed) -> str:
    return str(failure) if failure.is_queued else failure.error.message


def _print_json(response: chat_service_pb2.SubscribeResponse) -> None:
    print(_as_json(response), flush=True)


def _as_json(message: Any) -> str:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False)
