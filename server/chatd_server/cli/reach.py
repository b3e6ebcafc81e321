"""The server that a command talks to: how it is found, and for how long it may be away."""

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
"""How long a server may be away in the middle of an answer: a restart that drains its turns takes
half of it."""
CALL_SECONDS = 2.0
"""The same before anything has begun: a person who mistyped an address waits no longer."""


@dataclass(frozen=True)
class Server:
    """What the options say of the server to talk to."""

    address: str | None
    key: str | None
    config: str | None
    home: str | None
    #: How long both may be tried, when the user says so.
    retry_seconds: float | None = None

    @property
    def stream_seconds(self) -> float:
        """How long a lost stream is tried."""
        return STREAM_SECONDS if self.retry_seconds is None else self.retry_seconds

    @property
    def call_seconds(self) -> float:
        """How long a call is tried."""
        return CALL_SECONDS if self.retry_seconds is None else self.retry_seconds


class GaveUp(Unavailable):
    """The server was away for longer than the user wants to wait."""


@dataclass
class Patience:
    """Says once that the server is away, and raises GaveUp when that takes too long."""

    address: str
    seconds_max: float
    _waited: float = 0.0

    def __call__(self, reconnect: Reconnect) -> None:
        """Take what the client is about to try."""
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
    """Do the work with a client of this server; what fails is raised as Failed."""
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
    """Return the error with what this command knows: which server, and where the key is from."""
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
