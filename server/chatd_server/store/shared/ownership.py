"""Who may see and change a chat. A chat of another owner is not found, like one that is deleted."""

from collections.abc import Sequence
from typing import Any, TypeVar

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import ApiCommand, Command
from chatd_server.domain.ids import ChatId, OwnerId
from chatd_server.domain.refusal import ChatNotFound, LeaseLost
from chatd_server.store.shared.rows import STATE_COLUMNS

_OWNER = STATE_COLUMNS.index("owner_id")
_DELETED = STATE_COLUMNS.index("deleted_at")
_R = TypeVar("_R", bound=Sequence[Any])


def readable(row: _R | None, chat_id: ChatId, owner_id: OwnerId | None) -> _R:
    """Return a row that begins with STATE_COLUMNS if this owner may read it, or the server itself
    (None), who finds deleted chats too. Raises ChatNotFound.
    """
    if row is None:
        raise ChatNotFound(chat_id)
    if owner_id is not None and (row[_OWNER] != owner_id or row[_DELETED] is not None):
        raise ChatNotFound(chat_id)
    return row


def writable(
    state: ChatState | None, chat_id: ChatId, order: Command | Chain, owner_id: OwnerId | None
) -> ChatState:
    """Return the chat that an order is decided on; raises ChatNotFound."""
    if (
        state is None
        or (owner_id is not None and state.owner_id != owner_id)
        or (state.deleted and isinstance(order, ApiCommand))
    ):
        raise ChatNotFound(chat_id)
    return state


def lease_over(chat_id: ChatId, epoch: int) -> LeaseLost:
    """Return the error for a worker that has lost its lease."""
    return LeaseLost(f"the lease {epoch} of chat {chat_id} is over")
