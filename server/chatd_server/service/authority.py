"""Who may touch which chat. An id that is no UUID is refused as a stranger's chat is."""

from chatd_server.domain.ids import ChatId, OwnerId, is_uuid
from chatd_server.domain.refusal import ChatNotFound
from chatd_server.ports.store import ChatStore


def chat_id_of(text: str) -> ChatId:
    """Return a chat's id; raises ChatNotFound when it cannot be one."""
    if not is_uuid(text):
        raise ChatNotFound(text)
    return ChatId(text)


async def authorise(store: ChatStore, owner_id: OwnerId, text: str) -> None:
    """Raise ChatNotFound unless the caller owns a chat with this id.

    A request that is valid needs no call of this: the store compares the owner by itself. One
    that is not valid gets this answer first, so that it says nothing about a stranger's chat.
    """
    await store.load(chat_id_of(text), owner_id)
