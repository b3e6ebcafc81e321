"""The server that a command talks to: how it is found, and how long it is retried."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from chatd_client import (
    ChatdError,
    Client,
    Endpoint,
    PermissionDenied,
    Reconnect,
    Unavailable,
)
from chatd_server.cli.exits import told
from chatd_server.cli.options import endpoint, settings

STREAM_SECONDS = 60.0
"""How long a lost stream is retried: twice as long as a restart that drains its turns."""
CALL_SECONDS = 2.0
"""How long a call is retried: a person who mistyped an address waits no longer."""


@dataclass(frozen=True)
class Server:
    """The options that name the server."""

    address: str | None
    key: str | None
    config: str | None
    home: str | None
    #: Replaces both times if it is given.
    retry_seconds: float | None = None

    @property
    def stream_seconds(self) -> float:
        return STREAM_SECONDS if self.retry_seconds is None else self.retry_seconds

    @property
    def call_seconds(self) -> float:
        return CALL_SECONDS if self.retry_seconds is None else self.retry_seconds


class GaveUp(Unavailable):
    """The server did not come back within the time that the user allows."""


@dataclass
class Patience:
    """Reports once that the stream is lost; raises GaveUp when it does not come back in time."""

    address: str
    seconds_max: float
    _waited: float = 0.0

    def __call__(self, reconnect: Reconnect) -> None:
        if reconnect.failures == 1:
            self._waited = 0.0
        self._waited += reconnect.delay_seconds
        if self.seconds_max == 0:
            raise GaveUp(f"the stream from the server at {self.address} was lost")
        if self._waited > self.seconds_max:
            raise GaveUp(
                f"the server at {self.address} did not answer within {self.seconds_max:g} s"
            )
        if reconnect.failures > 1:
            return
        words = f"… no stream from {self.address}; trying for up to {self.seconds_max:g} s"
        Console(stderr=True).print(words, style="dim", highlight=False, markup=False)


def run(work: Callable[[Client], Coroutine[Any, Any, None]], server: Server) -> None:
    """Do the work with a client of this server. Raises Failed."""
    with told():
        asyncio.run(_with_client(work, server))


async def _with_client(work: Callable[[Client], Coroutine[Any, Any, None]], server: Server) -> None:
    found = settings(server.config, home=server.home).config
    there = endpoint(found, server.address, server.key)
    patience = Patience(there.address, server.stream_seconds)
    seconds = server.call_seconds
    async with Client(endpoint=there, on_reconnect=patience, retry_seconds=seconds) as client:
        try:
            await work(client)
        except (Unavailable, PermissionDenied) as error:
            raise _in_our_words(error, there, found.root_key_path, server) from error


def _in_our_words(error: ChatdError, there: Endpoint, root_key: Path, server: Server) -> ChatdError:
    """Add what this command knows: the server, and the source of the key."""
    is_of_home = there.key and not server.key and not os.environ.get("CHATD_KEY")
    if isinstance(error, Unavailable) and not error.reason and not isinstance(error, GaveUp):
        tried = f"within {server.call_seconds:g} s" if server.call_seconds else "(tried once)"
        return Unavailable(f"no server answered at {there.address} {tried}")
    if error.reason == "UNAUTHENTICATED" and is_of_home:
        return PermissionDenied(
            f"the server at {there.address} does not accept the key in {root_key}: it was revoked, "
            "or this server has another home. To replace a root key that was revoked, remove the "
            "file and start the server of this home again"
        )
    return error
