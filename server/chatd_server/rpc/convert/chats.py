"""A chat, and positions in its log."""

from chatd.v1 import chat_pb2
from chatd_server.domain.chat import ChatState, ForkedFrom, Status, StopReason
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.event import Cursor
from chatd_server.domain.ids import AttemptId
from chatd_server.rpc.convert.errors import chat_error
from chatd_server.rpc.convert.messages import usage
from chatd_server.rpc.convert.times import duration, timestamp
from chatd_server.rpc.convert.tools import tool_definitions

ETAG_PREFIX = "v"
"""An etag is this letter and the version of the config, so that no client computes with it."""

_STATUS = {it: chat_pb2.ChatStatus.Value(f"CHAT_STATUS_{it.name}") for it in Status}
_STOP_REASON = {it: chat_pb2.StopReason.Value(f"STOP_REASON_{it.name}") for it in StopReason}


def status(value: Status) -> chat_pb2.ChatStatus.ValueType:
    return _STATUS[value]


def stop_reason(value: StopReason | None) -> chat_pb2.StopReason.ValueType:
    """Return a stop reason; None (a turn is open) is unspecified."""
    return chat_pb2.STOP_REASON_UNSPECIFIED if value is None else _STOP_REASON[value]


def chat(it: ChatState) -> chat_pb2.Chat:
    config = it.config
    return chat_pb2.Chat(
        chat_id=it.id,
        title=config.title,
        status=_STATUS[it.status],
        archived=it.archived,
        labels=config.labels,
        model=config.model,
        system_prompt=config.system_prompt,
        tools=tool_definitions(config.tools),
        action_timeout=duration(config.action_timeout_seconds),
        turn_id=it.open_turn_id,
        stop_reason=stop_reason(it.stop_reason),
        last_error=None if it.last_error is None else chat_error(it.last_error),
        queued_message_count=len(it.queue),
        head_sequence=it.head_sequence,
        oldest_sequence=it.oldest_sequence,
        revision=it.revision,
        parent_chat_id=it.parent_id or "",
        root_chat_id=it.root_id,
        usage_total=usage(it.usage_total),
        etag=f"{ETAG_PREFIX}{config.version}",
        create_time=timestamp(it.created_at),
        update_time=timestamp(it.updated_at),
        forked_from=None if it.forked_from is None else forked_from(it.forked_from),
    )


def context_level(it: ContextLevel | None) -> chat_pb2.ContextLevel | None:
    """Return how full a context is; None when that is unknown."""
    if it is None:
        return None
    return chat_pb2.ContextLevel(
        used_tokens=it.use.used_tokens,
        estimated_tokens=it.use.estimated_tokens,
        limit_tokens=it.limit,
        threshold_percent=it.threshold_percent,
    )


def forked_from(it: ForkedFrom) -> chat_pb2.ForkedFrom:
    return chat_pb2.ForkedFrom(chat_id=it.chat_id, message_id=it.message_id)


def cursor(it: Cursor) -> chat_pb2.Cursor:
    return chat_pb2.Cursor(
        sequence=it.sequence,
        attempt_id=it.attempt_id,
        delta_offset=it.delta_offset,
        snapshot_unfinished=it.snapshot_unfinished,
    )


def cursor_from(wire: chat_pb2.Cursor) -> Cursor:
    return Cursor(
        sequence=wire.sequence,
        attempt_id=AttemptId(wire.attempt_id),
        delta_offset=wire.delta_offset,
        snapshot_unfinished=wire.snapshot_unfinished,
    )
