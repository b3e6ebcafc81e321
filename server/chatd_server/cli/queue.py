"""`chatd queue`: what waits for its turn in a chat."""

import json
from datetime import UTC
from typing import Annotated

import typer
from google.protobuf import json_format

from chatd.v1 import chat_pb2, message_pb2
from chatd_client import Client
from chatd_server.cli.listing import Listing, Row
from chatd_server.cli.options import Address, ConfigFile, Home, Json, Key, RetrySeconds
from chatd_server.cli.reach import Server, run
from chatd_server.cli.statuses import status_name

queue_app = typer.Typer(no_args_is_help=True, help="The messages that wait for their turn.")

ChatId = Annotated[str, typer.Argument(metavar="CHAT", help="The chat.")]
MessageId = Annotated[
    str, typer.Argument(metavar="MESSAGE", help="Id of the message, as `chatd queue list` says.")
]


@queue_app.command("list")
def queue_list(
    chat_id: ChatId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """List the queue, head first. In a pipe: one a line, with tabs between id, time and text."""

    async def listed(client: Client) -> None:
        found = await client.chat(chat_id).queued_messages()
        if as_json:
            shown = [json_format.MessageToDict(it) for it in found]
            print(json.dumps({"queuedMessages": shown}))
            return
        listing = Listing()
        rows = []
        for it in found:
            at = it.create_time.ToDatetime(tzinfo=UTC)
            rows.append(Row((it.message_id, listing.moment(at)), (words_of(it),)))
        listing.show(Row(("message", "sent"), ("text",)), rows)

    run(listed, Server(address, key, config, home, retry_seconds))


@queue_app.command("delete")
def queue_delete(
    chat_id: ChatId,
    message_id: MessageId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Take a message out of the queue. It is no failure if it is not there any more."""

    async def delete(client: Client) -> None:
        tell_chat(await client.chat(chat_id).delete_queued(message_id), as_json=as_json)

    run(delete, Server(address, key, config, home, retry_seconds))


@queue_app.command("promote")
def queue_promote(
    chat_id: ChatId,
    message_id: MessageId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Let a message be the next one. An open turn is interrupted, and keeps what it has."""

    async def promote(client: Client) -> None:
        tell_chat(await client.chat(chat_id).promote_queued(message_id), as_json=as_json)

    run(promote, Server(address, key, config, home, retry_seconds))


@queue_app.command("reorder")
def queue_reorder(
    chat_id: ChatId,
    message_ids: Annotated[
        list[str], typer.Argument(metavar="MESSAGE...", help="All of the queue, in the new order.")
    ],
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Put the queue in this order."""

    async def reorder(client: Client) -> None:
        tell_chat(await client.chat(chat_id).reorder_queued(message_ids), as_json=as_json)

    run(reorder, Server(address, key, config, home, retry_seconds))


def words_of(message: message_pb2.QueuedMessage) -> str:
    """Return the text of a queued message."""
    return " ".join(part.text.text for part in message.parts if part.HasField("text"))


def tell_chat(chat: chat_pb2.Chat, *, as_json: bool) -> None:
    """Say what the chat is after a change of its queue."""
    if as_json:
        print(json.dumps({"chat": json_format.MessageToDict(chat)}))
    else:
        print(f"{chat.queued_message_count} queued, the chat is {status_name(chat.status)}")
