"""`chatd chats`: list chats, change one as a whole; `chatd fork`."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf import json_format, timestamp_pb2
from rich.console import Console

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import Client
from chatd_server.cli.listing import Listing, Row
from chatd_server.cli.options import Address, ConfigFile, Home, Json, Key, RetrySeconds
from chatd_server.cli.reach import Server, run
from chatd_server.cli.statuses import STATUSES, status_name

_NAMES = Row(("chat", "status", "updated"), ("title", "model", "labels", "created"))


chats_app = typer.Typer(invoke_without_command=True)


@chats_app.callback()
def chats(
    context: typer.Context,
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
    parent: Annotated[
        str, typer.Option(metavar="CHAT", help="The children of this chat; else root chats.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of chats.")] = 20,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """List chats, newest first; or change one. In a pipe: one line each, with tabs between id,
    status, last change, title, model, labels and creation.
    """
    if context.invoked_subcommand is not None:
        _check_no_options(context, context.invoked_subcommand)
        return
    labels = labels_of(label)
    statuses = [_status(it) for it in status or ()]

    async def listed(client: Client) -> None:
        found: list[chat_pb2.Chat] = []
        has_more = False
        async for chat in client.list_chats(
            include_archived=archived, labels=labels, statuses=statuses, parent=parent
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


def labels_of(words: Iterable[str] | None) -> dict[str, str]:
    """Return the labels that an option gives. Raises typer.BadParameter."""
    return dict(map(_label, words or ()))


def _label(words: str) -> tuple[str, str]:
    name, sign, value = words.partition("=")
    if not name or not sign:
        raise typer.BadParameter(f"{words!r} is not a label: give NAME=VALUE")
    return name, value


def _status(words: str) -> chat_pb2.ChatStatus.ValueType:
    if words.lower() not in STATUSES:
        raise typer.BadParameter(f"{words!r} is not a status: give one of {', '.join(STATUSES)}")
    return STATUSES[words.lower()]


def _check_no_options(context: typer.Context, command: str) -> None:
    """Refuse options that would have no effect, among them the server to talk to."""
    given = (context.get_parameter_source(name) for name in context.params)
    if any(it is not None and it.name == "COMMANDLINE" for it in given):
        raise typer.BadParameter(f"give the options behind {command}: chatd chats {command} ...")


# --- one chat --------------------------------------------------------------------------------

ChatId = Annotated[str, typer.Argument(metavar="CHAT", help="The chat.")]


@chats_app.command()
def archive(
    chat_id: ChatId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Archive an idle or failed chat and its children: they take no messages and are not listed."""

    async def act(client: Client) -> None:
        request = chat_service_pb2.ArchiveChatRequest(chat_id=chat_id)
        done = await client.call(client.chats.ArchiveChat, request)
        _tell(done.chat, _counted("archived", done.chat_count), done.chat_count, as_json=as_json)

    run(act, Server(address, key, config, home, retry_seconds))


@chats_app.command()
def unarchive(
    chat_id: ChatId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Let an archived chat and its children take messages again."""

    async def act(client: Client) -> None:
        request = chat_service_pb2.UnarchiveChatRequest(chat_id=chat_id)
        done = await client.call(client.chats.UnarchiveChat, request)
        _tell(done.chat, _counted("unarchived", done.chat_count), done.chat_count, as_json=as_json)

    run(act, Server(address, key, config, home, retry_seconds))


@chats_app.command()
def delete(
    chat_id: ChatId,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Delete a chat and its children, for good, whatever they do. Open turns end."""

    async def act(client: Client) -> None:
        request = chat_service_pb2.DeleteChatRequest(chat_id=chat_id)
        count = (await client.call(client.chats.DeleteChat, request)).chat_count
        told = {"chatId": chat_id, "deleted": True, "chatCount": count}
        print(json.dumps(told) if as_json else _counted(f"deleted {chat_id}", count))

    run(act, Server(address, key, config, home, retry_seconds))


@chats_app.command()
def title(
    chat_id: ChatId,
    words: Annotated[
        str | None, typer.Argument(metavar="TITLE", help="The new title; may be empty.")
    ] = None,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Let a model write it from what was said.")
    ] = False,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Give a chat another title."""
    if (words is None) is not regenerate:
        raise typer.BadParameter("give a title, or --regenerate, and not both")

    async def act(client: Client) -> None:
        handle = client.chat(chat_id)
        chat = await (handle.regenerate_title() if words is None else handle.update(title=words))
        _tell(chat, f"{chat_id} has the title {chat.title!r}", as_json=as_json)

    run(act, Server(address, key, config, home, retry_seconds))


@chats_app.command()
def label(
    chat_id: ChatId,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="Labels to set.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="A label to remove. May be repeated."),
    ] = None,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Set and remove labels of a chat; the others stay."""
    new = labels_of(labels)
    old = set(remove or ())
    if not new and not old:
        raise typer.BadParameter("name a label to set (NAME=VALUE) or to remove (--remove NAME)")

    async def act(client: Client) -> None:
        handle = client.chat(chat_id)
        read = await handle.get()
        kept = {name: value for name, value in read.labels.items() if name not in old}
        # With the etag nobody else's change is lost between the reading and the writing.
        chat = await handle.update(labels={**kept, **new}, etag=read.etag)
        shown = " ".join(f"{name}={value}" for name, value in sorted(chat.labels.items()))
        _tell(chat, f"{chat_id} has the labels: {shown or 'none'}", as_json=as_json)

    run(act, Server(address, key, config, home, retry_seconds))


def fork(
    chat_id: ChatId,
    message_id: Annotated[
        str, typer.Option("--message", help="The last message to copy; else the newest one.")
    ] = "",
    title: Annotated[str | None, typer.Option(help="Title of the new chat; else the same.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A label of the new chat. May be repeated."),
    ] = None,
    as_json: Json = False,
    retry_seconds: RetrySeconds = None,
    address: Address = None,
    key: Key = None,
    config: ConfigFile = None,
    home: Home = None,
) -> None:
    """Make a new chat with the history of another one, and print its id."""
    labels = labels_of(label)

    async def act(client: Client) -> None:
        made = await client.chat(chat_id).fork(message_id, title=title, labels=labels)
        if as_json:
            print(json.dumps({"chat": json_format.MessageToDict(await made.get())}))
        else:
            print(made.id)

    run(act, Server(address, key, config, home, retry_seconds))


def _tell(chat: chat_pb2.Chat, words: str, count: int | None = None, *, as_json: bool) -> None:
    counted = {} if count is None else {"chatCount": count}
    print(json.dumps({"chat": json_format.MessageToDict(chat), **counted}) if as_json else words)


def _counted(words: str, count: int) -> str:
    """Add how many chats it was, unless it was the one that was named."""
    return words if count <= 1 else f"{words}: {count} chats with its children"
