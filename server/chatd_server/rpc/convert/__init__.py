"""Values of the domain to messages of the contract and back: one small function per type."""

from chatd_server.rpc.convert.chats import chat, context_level, cursor, cursor_from
from chatd_server.rpc.convert.errors import chat_error
from chatd_server.rpc.convert.events import event, snapshot, stream_end
from chatd_server.rpc.convert.messages import (
    executor,
    message,
    part,
    queued_message,
    tool_result,
)
from chatd_server.rpc.convert.requests import (
    CHANGEABLE,
    as_new_chat,
    busy_from,
    changed_fields,
    chat_changes_from,
    chat_config_from,
    etag_version_from,
    statuses_from,
    submitted_result_from,
    turn_options_from,
    user_parts_from,
)
from chatd_server.rpc.convert.times import duration, seconds_of, timestamp
from chatd_server.rpc.convert.tools import pending_action, wanted_action

__all__ = [
    "CHANGEABLE",
    "as_new_chat",
    "busy_from",
    "changed_fields",
    "chat",
    "chat_changes_from",
    "chat_config_from",
    "chat_error",
    "context_level",
    "cursor",
    "cursor_from",
    "duration",
    "etag_version_from",
    "event",
    "executor",
    "message",
    "part",
    "pending_action",
    "queued_message",
    "seconds_of",
    "snapshot",
    "statuses_from",
    "stream_end",
    "submitted_result_from",
    "timestamp",
    "tool_result",
    "turn_options_from",
    "user_parts_from",
    "wanted_action",
]
