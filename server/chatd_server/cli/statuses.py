"""Statuses of a chat, as all commands take and show them: as the contract, in small letters."""

from chatd.v1 import chat_pb2

STATUSES = {
    name.removeprefix("CHAT_STATUS_").lower(): number
    for name, number in chat_pb2.ChatStatus.items()
    if number != chat_pb2.CHAT_STATUS_UNSPECIFIED
}
"""The statuses by name."""


def status_name(status: chat_pb2.ChatStatus.ValueType) -> str:
    """Return the name of a status."""
    return chat_pb2.ChatStatus.Name(status).removeprefix("CHAT_STATUS_").lower()
