"""`chatd chats`: list chats."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf import json_format, timestamp_pb2
from rich.console import Console

from chatd.v1 import chat_pb2
from chatd_client import Client
from chatd_server.cli.listing import Listing, Row
from chatd_server.cli.options import Address, ConfigFile, Home, Json, Key, RetrySeconds
from chatd_server.cli.reach import Server, run
from chatd_server.cli.statuses import STATUSES, status_name

_NAMES = Row(("chat", "status", "updated"), ("title", "model", "labels", "created"))


def chats(
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only chats with this label. May be repeated."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            help=f"Only chats in this status: {', '.join(STATUSES)}. May be repeated.",
        ),
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Include archived chats.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of chats.")] = 20,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """List chats, newest first. In a pipe: one line each, with tabs between id, status, last
    change, title, model, labels and creation.
    """
    labels = dict(_label(it) for it in label or ())
    statuses = [_status(it) for it in status or ()]

    async def listed(client: Client) -> None:
        found: list[chat_pb2.Chat] = []
        has_more = False
        async for chat in client.list_chats(
            include_archived=archived, labels=labels, statuses=statuses
        ):
            has_more = len(found) == limit
            if has_more:
                break
            found.append(chat)
        if as_json:
            shown = [json_format.MessageToDict(it) for it in found]
            print(json.dumps({"chats": shown, "has_more": has_more}))
            return
        listing = Listing()
        listing.show(_NAMES, [_row(it, listing) for it in found])
        if has_more:
            words = f"there are more chats; to show more than {limit}: --limit"
            Console(stderr=True, soft_wrap=True, highlight=False).print(words, style="dim")

    run(listed, Server(address, key, config, home, retry_seconds))


def _row(chat: chat_pb2.Chat, listing: Listing) -> Row:
    labels = " ".join(f"{name}={value}" for name, value in sorted(chat.labels.items()))
    return Row(
        (chat.chat_id, status_name(chat.status), listing.moment(_datetime(chat.update_time))),
        (
            f"{chat.title} (archived)".lstrip() if chat.archived else chat.title,
            chat.model,
            labels,
            listing.moment(_datetime(chat.create_time)),
        ),
    )


def _datetime(at: timestamp_pb2.Timestamp) -> datetime:
    return at.ToDatetime(tzinfo=UTC)


def _label(words: str) -> tuple[str, str]:
    name, sign, value = words.partition("=")
    if not name or not sign:
        raise typer.BadParameter(f"{words!r} is not a label: give NAME=VALUE")
    return name, value


def _status(words: str) -> chat_pb2.ChatStatus.ValueType:
    if words.lower() not in STATUSES:
        raise typer.BadParameter(f"{words!r} is not a status: give one of {', '.join(STATUSES)}")
    return STATUSES[words.lower()]
