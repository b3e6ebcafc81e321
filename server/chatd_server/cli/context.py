"""`chatd compact` and `chatd clear`: what the model knows of a chat."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import typer
from google.protobuf import json_format

from chatd.v1 import chat_pb2, event_pb2
from chatd_client import ChatHandle
from chatd_server.cli.exits import TURN_FAILED, Exit, Failed
from chatd_server.cli.options import Address, ConfigFile, Home, Json, Key, RetrySeconds
from chatd_server.cli.reach import Server, run
from chatd_server.cli.sending import UNTIL_ANSWERED
from chatd_server.cli.transcript import compaction_words

ACTS: Mapping[str, Callable[[ChatHandle], Awaitable[object]]] = {
    "/compact": lambda chat: chat.compact(),
    "/clear": lambda chat: chat.clear_context(),
}
"""What a line of `chatd chat` may ask for instead of being said."""


ChatId = Annotated[str, typer.Argument(help="The chat.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the main program."""
    for command in (compact, clear):
        app.command()(command)


def compact(
    chat_id: ChatId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Summarise what the model knows of a chat, and wait for it. Nothing is lost for you."""
    server = Server(address, key, config, home, retry_seconds)
    run(lambda client: _done(client.chat(chat_id), "/compact", as_json=as_json), server)


def clear(
    chat_id: ChatId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Let the model forget what was said in a chat. Nothing is lost for you."""
    server = Server(address, key, config, home, retry_seconds)
    run(lambda client: _done(client.chat(chat_id), "/clear", as_json=as_json), server)


async def _done(chat: ChatHandle, act: str, *, as_json: bool) -> None:
    """Do it, and print what came of it. Raises Failed."""
    cursor = chat_pb2.Cursor(sequence=(await chat.get()).head_sequence)
    await ACTS[act](chat)
    finished = event_pb2.CompactionFinished()
    async for response in chat.follow(cursor=cursor, until=UNTIL_ANSWERED):
        if response.event.WhichOneof("event") == "compaction_finished":
            finished = response.event.compaction_finished
    if act == "/compact" and not finished.outcome:
        raise Failed("the summary was stopped before it was complete", Exit.FAILED, TURN_FAILED)
    words, _ = compaction_words(finished)
    if finished.outcome == event_pb2.COMPACTION_OUTCOME_FAILED:
        raise Failed(words, Exit.FAILED, TURN_FAILED)
    print(json.dumps(json_format.MessageToDict(finished)) if as_json else words)
