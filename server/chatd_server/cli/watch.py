"""`chatd watch`: what happens in all chats."""

import json
from contextlib import aclosing
from datetime import UTC
from typing import Annotated

import typer
from google.protobuf import json_format
from rich.console import Console
from rich.text import Text

from chatd.v1 import chat_service_pb2, event_pb2
from chatd_client import Client
from chatd_server.cli.chats import labels_of
from chatd_server.cli.listing import printable
from chatd_server.cli.options import Address, ConfigFile, Home, JsonLines, Key, RetrySeconds
from chatd_server.cli.reach import Server, run
from chatd_server.cli.statuses import status_name

_UNSHOWN = frozenset({"heartbeat", "caught_up", "stream_end"})


def watch(
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only chats with this label. May be repeated."),
    ] = None,
    root: Annotated[str, typer.Option(metavar="CHAT", help="Only the family of this chat.")] = "",
    cursor: Annotated[
        str, typer.Option(help="Go on after this cursor of a JSON line; default: from now on.")
    ] = "",
    once: Annotated[
        bool, typer.Option("--once", help="Print what has happened since the cursor, and quit.")
    ] = False,
    as_json: JsonLines = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Print what happens in all chats: new statuses, titles, calls that wait for a client, and
    deletions. Ctrl-C quits.
    """
    labels = labels_of(label)
    console = Console(highlight=False, soft_wrap=True)

    async def follow(client: Client) -> None:
        watching = client.watch(cursor, root_chat_id=root, labels=labels)
        async with aclosing(watching) as responses:
            async for response in responses:
                kind = response.event.WhichOneof("event")
                if as_json:
                    print(json.dumps(json_format.MessageToDict(response)), flush=True)
                elif kind not in _UNSHOWN:
                    console.print(_line(response))
                if once and kind == "caught_up":
                    return

    run(follow, Server(address, key, config, home, retry_seconds))


def _line(response: chat_service_pb2.WatchChatsResponse) -> Text:
    event = response.event
    at = event.event_time.ToDatetime(tzinfo=UTC).astimezone()
    line = Text(f"{at:%H:%M:%S}  ", style="dim")
    line.append(f"{response.chat_id}  ", style="default not dim")
    return line.append(printable(in_words(event)), style="default not dim")


def in_words(event: event_pb2.ChatEvent) -> str:
    """Return in some words what happened."""
    match event.WhichOneof("event"):
        case "status_changed":
            changed = event.status_changed
            archived = ", archived" if changed.archived else ""
            error = f": {changed.last_error.message}" if changed.HasField("last_error") else ""
            return f"{status_name(changed.status)}{archived}{error}"
        case "action_required":
            names = (call.tool_name for call in event.action_required.action.tool_calls)
            return f"waits for a client: {', '.join(names)}"
        case "action_resolved":
            return "no longer waits for a client"
        case "chat_updated":
            updated = event.chat_updated
            named = {"title": updated.title} if updated.HasField("title") else {}
            named |= {"model": updated.model} if updated.HasField("model") else {}
            if updated.HasField("labels"):
                labels = sorted(updated.labels.entries.items())
                named["labels"] = " ".join(f"{name}={value}" for name, value in labels)
            return ", ".join(f"{name}: {value}" for name, value in named.items()) or "changed"
        case "subagent_changed":
            child = event.subagent_changed
            return f"child {child.chat_id} is {status_name(child.status)}"
        case "chat_deleted":
            return "deleted"
        case kind:
            return str(kind)
