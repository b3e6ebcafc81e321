"""`chatd migrate`, `keys`, `health`, `version` and `config show`: for operators."""

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from chatd_server.cli.exits import START_ONE, UNREACHABLE, Exit, Failed, told
from chatd_server.cli.listing import Listing, Row
from chatd_server.cli.options import (
    Address,
    ConfigFile,
    DatabaseUrl,
    Home,
    Json,
    server_address,
    settings,
)
from chatd_server.clock import RealClock
from chatd_server.config.load import server_version
from chatd_server.config.settings import Config
from chatd_server.domain.ids import MICROSECONDS, Instant, OwnerId
from chatd_server.ports.keys import KeyRecord
from chatd_server.service.keys import OWNER_CHARACTERS_MAX, ROOT_OWNER, Keys, is_root

HEALTH_SECONDS_MAX = 5.0
"""How long `chatd health` waits for an answer."""

T = TypeVar("T")


def migrate(
    config: ConfigFile = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Bring the database to the schema of this version. Only forwards; safe to run again."""
    from chatd_server.app import databases

    with told():
        loaded = settings(config, home=home, database_url=database_url)
        console = Console(stderr=True)
        with console.status(f"migrating {loaded.config.shown_database}"):
            before, now = asyncio.run(databases.migrate_database(loaded.config, RealClock()))
        if as_json:
            print(json.dumps({"before": before, "now": now, "changed": before != now}))
        elif before == now:
            print(f"{loaded.config.shown_database} already has schema {now}")
        else:
            print(f"{loaded.config.shown_database}: schema {before or 'none'} -> {now}")


def version(as_json: Json = False) -> None:
    """Print the version."""
    number = server_version()
    print(json.dumps({"version": number}) if as_json else f"chatd {number}")


def health(
    address: Address = None,
    service: Annotated[
        str, typer.Option(help="Full name of a service; default: the whole server.")
    ] = "",
    config: ConfigFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check whether a server is serving: exit code 0 if it is, else 1. Needs no key."""
    with told():
        where = server_address(settings(config, home=home).config, address)
        status, detail = _health(where, service)
        facts = {"address": where, "status": status, "detail": detail}
        if status != "SERVING":
            message = f"{where} is not serving: {detail or status}"
            raise Failed(message, Exit.FAILED, status, facts)
        print(json.dumps(facts) if as_json else f"{where} is serving")


def _health(address: str, service: str) -> tuple[str, str]:
    """Return the status that the server reports, or UNREACHABLE and why."""
    import grpc
    from grpc_health.v1 import health_pb2

    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        request = health_pb2.HealthCheckRequest(service=service)
        call = check.future(request, timeout=HEALTH_SECONDS_MAX)
        code = call.code()
        if code is grpc.StatusCode.NOT_FOUND:
            return "SERVICE_UNKNOWN", f"it has no service {service!r}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UNREACHABLE, f"no answer within {HEALTH_SECONDS_MAX:g} s. {START_ONE}"
        if code is grpc.StatusCode.UNAVAILABLE:
            return UNREACHABLE, f"{_refusal(call.details() or '')}. {START_ONE}"
        if code is not grpc.StatusCode.OK:
            return UNREACHABLE, f"the server there is not chatd. {START_ONE}"
        status = call.result().status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status), ""


def _refusal(words_of_grpc: str) -> str:
    """Return why there is no connection; grpc reports it only as text."""
    is_refused = os.strerror(errno.ECONNREFUSED) in words_of_grpc
    return "it refused the connection" if is_refused else "no connection could be made"


# --- settings --------------------------------------------------------------------------------

config_app = typer.Typer(no_args_is_help=True, help="Show the settings.")


@config_app.command("show")
def config_show(
    config: ConfigFile = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Print every setting, its value and its source. Secrets are not shown."""
    with told():
        loaded = settings(config, home=home, database_url=database_url)
        if as_json:
            shown = {
                it.name: {"value": it.value, "source": it.source, "origin": it.origin}
                for it in loaded.settings
            }
            print(json.dumps(shown, indent=2))
            return
        names = Row(("setting", "value"), ("from", "what it is"))
        rows = [
            Row((it.name, str(it.value)), (it.origin or it.source, it.description))
            for it in loaded.settings
        ]
        Listing().show(names, rows)


# --- keys ------------------------------------------------------------------------------------

keys_app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in the list.")],
    owner: Annotated[
        str,
        typer.Option(
            help="Owner of the chats that the key can access; keys of one owner access the same "
            "chats. Default: the owner of the root key."
        ),
    ] = ROOT_OWNER,
    config: ConfigFile = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It is shown only once: the server stores a hash."""
    with told():
        for what, words in (("an owner", owner), ("a name", name)):
            if not 0 < len(words) <= OWNER_CHARACTERS_MAX or not words.isprintable():
                message = f"{what} must have 1 to {OWNER_CHARACTERS_MAX} printable characters"
                raise Failed(message, Exit.USAGE)
        found = settings(config, home=home, database_url=database_url).config
        record, key = _with_keys(
            found, lambda keys: keys.create(OwnerId(owner), name), may_create=True
        )
        if as_json:
            print(json.dumps({**_plain(record), "key": key}))
            return
        print(key, flush=True)
        notes = Console(stderr=True, soft_wrap=True, highlight=False)
        same = ", as the root key" if owner == ROOT_OWNER else ""
        notes.print(
            f"It accesses the chats of the owner {owner}{same}; to choose another: --owner",
            markup=False,
        )
        notes.print(f"Its id is {record.id}. To revoke it: chatd keys revoke {record.id}")


@keys_app.command("list")
def keys_list(
    config: ConfigFile = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """List all keys, newest first, without the keys themselves. In a pipe: one line each, with
    tabs between id, creation, revocation, name and owner.
    """
    with told():
        found = settings(config, home=home, database_url=database_url).config
        records = _with_keys(found, lambda keys: keys.page())
        if as_json:
            print(json.dumps([_plain(it) for it in records], indent=2))
            return
        listing = Listing()
        rows = []
        for it in records:
            revoked = "" if it.revoked_at is None else listing.moment(_datetime(it.revoked_at))
            columns = (it.id, listing.moment(_datetime(it.created_at)), revoked)
            rows.append(Row(columns, (it.name, it.owner_id)))
        listing.show(Row(("id", "created", "revoked"), ("name", "owner")), rows)


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `chatd keys list` shows it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Revoke it even if it is the root key of a home.")
    ] = False,
    config: ConfigFile = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Revoke a key. Servers refuse it within a few seconds."""
    with told():
        found = settings(config, home=home, database_url=database_url).config
        record = _with_keys(found, lambda keys: _revoked(keys, key_id, force=force))
        if as_json:
            print(json.dumps({"id": key_id, "revoked": True}))
            return
        print(f"revoked {key_id}")
        if is_root(record):
            print(
                "It was a root key. To get a new one, remove root.key from its home and start the "
                "server of that home again"
            )


async def _revoked(keys: Keys, key_id: str, *, force: bool) -> KeyRecord:
    """Revoke a key and return it. Raises Failed when there is none, or it needs --force."""
    record = await keys.find(key_id)
    if record is not None and is_root(record) and not force:
        raise Failed(
            f"{key_id} is a root key ({record.name}): without it, the server refuses the commands "
            "of its home. To revoke it anyway, add --force",
            Exit.FAILED,
        )
    if record is None or not await keys.revoke(key_id):
        message = f"no active key has the id {key_id!r}; `chatd keys list` shows all keys"
        raise Failed(message, Exit.FAILED)
    return record


def _with_keys(
    config: Config, work: Callable[[Keys], Awaitable[T]], *, may_create: bool = False
) -> T:
    from chatd_server.app import databases

    async def run() -> T:
        clock = RealClock()
        store, close = await databases.open_keys(config, clock, may_create=may_create)
        try:
            return await work(Keys(store, clock))
        finally:
            await close()

    return asyncio.run(run())


def _plain(record: KeyRecord) -> dict[str, str | None]:
    return {
        "id": record.id,
        "name": record.name,
        "owner": record.owner_id,
        "created": _moment(record.created_at),
        "revoked": None if record.revoked_at is None else _moment(record.revoked_at),
    }


def _moment(at: Instant) -> str:
    return _datetime(at).isoformat()


def _datetime(at: Instant) -> datetime:
    return datetime.fromtimestamp(at // MICROSECONDS, UTC)
