"""`chatd serve`: run a server until a signal."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from chatd_server.app.root_key import revoked_advice
from chatd_server.cli.exits import told
from chatd_server.cli.logs import set_up_logs
from chatd_server.cli.options import ConfigFile, DatabaseUrl, Home, Json, quiet_settings
from chatd_server.collector import settle
from chatd_server.config.load import BadConfig, Loaded, server_version
from chatd_server.config.settings import Config

if TYPE_CHECKING:
    from chatd_server.app.server import App

_ENDS = (signal.SIGTERM, signal.SIGINT)


def serve(
    config: ConfigFile = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.")] = None,
    reuse_port: Annotated[
        bool | None, typer.Option("--reuse-port", help="Share the port with other servers.")
    ] = None,
    migrate: Annotated[
        bool | None, typer.Option("--migrate", help="Migrate a PostgreSQL schema first.")
    ] = None,
    default_model: Annotated[
        str | None, typer.Option(help='Model of chats that name none: "provider/model".')
    ] = None,
    runs_max: Annotated[
        int | None, typer.Option(help="Maximum number of chats that this server runs at once.")
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="How long running turns may take to finish at a stop.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text.")] = None,
    as_json: Json = False,
) -> None:
    """Run the server. SIGTERM or Ctrl-C lets running turns finish; a second one stops at once."""
    with told():
        loaded = quiet_settings(
            config,
            home=home,
            database_url=database_url,
            host=host,
            port=port,
            reuse_port=reuse_port,
            migrate=migrate,
            default_model=default_model,
            runs_max=runs_max,
            drain_seconds=drain_seconds,
            log_level=log_level,
            log_format=log_format,
        )
        set_up_logs(loaded.config)
        _warn(loaded)
        with _named(loaded), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(loaded.config, _announce_json if as_json else _announce))


def _warn(loaded: Loaded) -> None:
    """Log probable mistakes in the settings."""
    log = structlog.get_logger("chatd")
    for it in loaded.unknown_variables:
        log.warning("settings.unknown_variable", name=it.name, advice=it.advice)
    if not loaded.config.is_loopback:
        log.warning(
            "server.without_tls",
            host=loaded.config.server.host,
            advice="keys and chats are not encrypted on the network: put a TLS proxy in front",
        )


@contextmanager
def _named(loaded: Loaded) -> Iterator[None]:
    """For a default model that does not exist: raise BadConfig, which names the setting."""
    from chatd_server.domain.refusal import ModelNotFound

    try:
        yield
    except ModelNotFound as refusal:
        it = next(it for it in loaded.settings if it.name == "default_model")
        words = "; ".join(violation.description for violation in refusal.violations)
        raise BadConfig(
            f"default_model = {it.value!r}, from {it.origin or it.source}, cannot be used: {words}"
        ) from refusal


async def run(config: Config, announce: Callable[["App"], None]) -> None:
    """Serve until a signal. Raises the error that keeps the server from serving."""
    from chatd_server.app.compose import build

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A shell without job control makes its background programs ignore Ctrl-C: keep that.
    ends = [it for it in _ENDS if signal.getsignal(it) is not signal.SIG_IGN]
    for number in ends:
        loop.add_signal_handler(number, stop.set)
    app = await build(config)
    await app.start()
    settle()
    announce(app)
    await app.warm_up()
    settle()
    await _until(stop, app)
    # The second signal stops at once.
    again = asyncio.Event()
    for number in ends:
        loop.add_signal_handler(number, again.set)
    await _drain(app, again)


async def _until(stop: asyncio.Event, app: "App") -> None:
    """Wait for a signal. Raises the error of a part of the server that failed."""
    stopped = asyncio.create_task(stop.wait())
    broken = asyncio.create_task(app.broken())
    try:
        await asyncio.wait([stopped, broken], return_when=asyncio.FIRST_COMPLETED)
        if broken.done() and broken.exception() is not None:
            await app.stop()
            broken.result()
    finally:
        for task in (stopped, broken):
            task.cancel()
        await asyncio.gather(stopped, broken, return_exceptions=True)


async def _drain(app: "App", again: asyncio.Event) -> None:
    draining = asyncio.create_task(app.drain())
    impatient = asyncio.create_task(again.wait())
    await asyncio.wait([draining, impatient], return_when=asyncio.FIRST_COMPLETED)
    impatient.cancel()
    if not draining.done():
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await app.stop()
        return
    await draining


def _announce(app: "App") -> None:
    config = app.config
    key = f"key in {config.root_key_path}"
    print(
        f"chatd {server_version()} serves on {app.address}, "
        f"database {config.shown_database}, {key}{' (revoked)' if app.root_key_is_revoked else ''}",
        flush=True,
    )
    if app.root_key_is_revoked:
        print(f"The root key was revoked. {revoked_advice(config.root_key_path)}", flush=True)


def _announce_json(app: "App") -> None:
    facts = {
        "address": app.address,
        "database": app.config.shown_database,
        "root_key_file": str(app.config.root_key_path),
        "root_key_is_revoked": app.root_key_is_revoked,
        "version": server_version(),
    }
    print(json.dumps(facts), flush=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is installed; None means asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
