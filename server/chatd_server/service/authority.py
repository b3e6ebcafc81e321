"""Who may touch which chat."""

from chatd_server.domain.ids import OwnerId
from chatd_server.ports.store import ChatStore
from chatd_server.service.ids import chat_id_of


async def authorise(store: ChatStore, owner_id: OwnerId, text: str) -> None:
    """Raise ChatNotFound unless the caller owns a chat with this id.

    A valid request does not need this: the store compares the owner by itself. An invalid one is
    authorised first, so that its refusal says nothing about the chat of another owner.
    """
    await store.load(chat_id_of(text), owner_id)
