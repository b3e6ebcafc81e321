"""Hints between the processes of one database."""

from collections.abc import Callable
from typing import Protocol

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId


class Wake(Protocol):
    """Hints between processes. They may be lost, doubled or reordered, and carry no meaning."""

    def hint(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Say, after a commit, that a chat changed. Never blocks."""

    def listen(self, callback: Callable[[ChatId, int, Status], None]) -> Callable[[], None]:
        """Call back on the loop's thread for each hint; return how to stop it."""

    def listen_gaps(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when hints may have been lost, so look now; return how to stop it."""
