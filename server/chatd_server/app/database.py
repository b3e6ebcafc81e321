"""An open database, whichever it is."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from chatd_server.ports.keys import KeyStore
from chatd_server.ports.store import CommitListener, Store
from chatd_server.ports.wake import Wake


class WatchedWake(Wake, Protocol):
    """Hints that may fail for good."""

    async def failed(self) -> None:
        """Wait until hints cannot come any more; raises why."""


class Database(msgspec.Struct, frozen=True):
    """An open database and its parts."""

    store: Store
    keys: KeyStore
    wake: WatchedWake
    listen: Callable[[CommitListener], None]
    close: Callable[[], Awaitable[None]]
