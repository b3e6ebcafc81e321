"""Names of statuses for all commands: those of the contract, in lower case."""

from chatd.v1 import chat_pb2

STATUSES = {
    name.removeprefix("CHAT_STATUS_").lower(): number
    for name, number in chat_pb2.ChatStatus.items()
    if number != chat_pb2.CHAT_STATUS_UNSPECIFIED
}


def status_name(status: chat_pb2.ChatStatus.ValueType) -> str:
    return chat_pb2.ChatStatus.Name(status).removeprefix("CHAT_STATUS_").lower()
