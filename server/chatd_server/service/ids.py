"""Ids as they arrive in requests."""

from chatd_server.domain.ids import ChatId, is_uuid, new_uuid
from chatd_server.domain.refusal import ChatNotFound
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import RequestKey


def chat_id_of(text: str) -> ChatId:
    """Return a chat's id. Raises ChatNotFound for text that cannot be one, as for the chat of
    another owner.
    """
    if not is_uuid(text):
        raise ChatNotFound(text)
    return ChatId(text)


def command_id(clock: Clock, request: RequestKey | None) -> str:
    """Return the id under which a command is recorded: the request's, else a new one."""
    return new_uuid(clock.now()) if request is None else request.key
