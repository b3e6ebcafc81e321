"""Durable events of the log to events of the contract."""

from typing import assert_never

from chatd.v1 import event_pb2, tool_pb2
from chatd_server.domain.chat import ChatState, Queued
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolution,
    ActionResolved,
    ChatDeleted,
    ChatUpdated,
    CompactionFinished,
    CompactionOutcome,
    HistoryTruncated,
    LoggedEvent,
    MessageCommitted,
    QueueChanged,
    QueueEntry,
    RetryScheduled,
    StatusChanged,
    SubagentChanged,
    preview,
)
from chatd_server.domain.ids import ChatId
from chatd_server.domain.live import StreamEndReason
from chatd_server.domain.machine.payloads import pending_calls
from chatd_server.domain.message import CompactionSource
from chatd_server.domain.refusal import Draining
from chatd_server.rpc.convert.chats import chat, context_level, status, stop_reason
from chatd_server.rpc.convert.errors import chat_error
from chatd_server.rpc.convert.messages import message
from chatd_server.rpc.convert.times import duration, timestamp
from chatd_server.rpc.convert.tools import pending_action

_RESOLUTION = {
    it: event_pb2.ActionResolution.Value(f"ACTION_RESOLUTION_{it.name}") for it in ActionResolution
}
_SOURCE = {
    it: event_pb2.CompactionSource.Value(f"COMPACTION_SOURCE_{it.name}") for it in CompactionSource
}
_END_REASON = {
    it: event_pb2.StreamEndReason.Value(f"STREAM_END_REASON_{it.name}") for it in StreamEndReason
}

_OUTCOME = {
    it: event_pb2.CompactionOutcome.Value(f"COMPACTION_OUTCOME_{it.name}")
    for it in CompactionOutcome
}


def event(chat_id: ChatId, logged: LoggedEvent) -> event_pb2.ChatEvent:
    """Return one entry of a chat's log. A MessageCommitted needs its message."""
    wire = event_pb2.ChatEvent(sequence=logged.sequence, event_time=timestamp(logged.at))
    match logged.event:
        case MessageCommitted():
            wire.message_committed.CopyFrom(_message_committed(chat_id, logged, logged.event))
        case StatusChanged():
            wire.status_changed.CopyFrom(status_changed(logged.event))
        case QueueChanged():
            wire.queue_changed.CopyFrom(
                event_pb2.QueueChanged(entries=[queue_entry(it) for it in logged.event.entries])
            )
        case ActionRequired():
            wire.action_required.CopyFrom(_action_required(chat_id, logged, logged.event))
        case ActionResolved():
            resolution = _RESOLUTION[logged.event.resolution]
            wire.action_resolved.CopyFrom(
                event_pb2.ActionResolved(turn_id=logged.event.turn_id, resolution=resolution)
            )
        case RetryScheduled():
            wire.retry_scheduled.CopyFrom(_retry_scheduled(logged.event))
        case HistoryTruncated():
            first = logged.event.first_removed_position
            wire.history_truncated.CopyFrom(
                event_pb2.HistoryTruncated(first_removed_position=first)
            )
        case CompactionFinished():
            wire.compaction_finished.CopyFrom(_compaction_finished(logged.event))
        case ChatUpdated():
            wire.chat_updated.CopyFrom(_chat_updated(logged.event))
        case SubagentChanged():
            wire.subagent_changed.CopyFrom(_subagent_changed(logged.event))
        case ChatDeleted():
            wire.chat_deleted.SetInParent()
        case _:
            assert_never(logged.event)
    return wire


def stream_end(reason: StreamEndReason) -> event_pb2.StreamEnd:
    end = event_pb2.StreamEnd(reason=_END_REASON[reason])
    if reason is StreamEndReason.DRAINING:  # an immediate resume would reach the same server
        end.retry_delay.CopyFrom(duration(Draining.retry_seconds))
    return end


def _message_committed(
    chat_id: ChatId, logged: LoggedEvent, it: MessageCommitted
) -> event_pb2.MessageCommitted:
    assert logged.message is not None, f"event {logged.sequence} was read without its message"
    return event_pb2.MessageCommitted(
        message=message(chat_id, logged.message), attempt_id=it.attempt_id
    )


def status_changed(it: StatusChanged) -> event_pb2.StatusChanged:
    return event_pb2.StatusChanged(
        status=status(it.status),
        turn_id=it.turn_id,
        stop_reason=stop_reason(it.stop_reason),
        last_error=None if it.last_error is None else chat_error(it.last_error),
        archived=it.archived,
    )


def queue_entry(it: QueueEntry) -> event_pb2.QueueEntry:
    """Return one message of the queue, shortened."""
    return event_pb2.QueueEntry(message_id=it.id, preview=it.preview)


def _action_required(
    chat_id: ChatId, logged: LoggedEvent, it: ActionRequired
) -> event_pb2.ActionRequired:
    calls = [
        tool_pb2.PendingToolCall(
            tool_call_id=call.id,
            tool_name=call.name,
            arguments_json=call.arguments,
            create_time=timestamp(call.created_at),
            answered=call.answered,
        )
        for call in it.calls
    ]
    return event_pb2.ActionRequired(
        action=tool_pb2.PendingAction(
            chat_id=chat_id,
            turn_id=it.turn_id,
            tool_calls=calls,
            deadline=timestamp(it.deadline),
            sequence=logged.sequence,
        )
    )


def _retry_scheduled(it: RetryScheduled) -> event_pb2.RetryScheduled:
    return event_pb2.RetryScheduled(
        attempt_id=it.attempt_id,
        attempt_number=it.attempt_number,
        delay=duration(it.delay_seconds),
        retry_time=timestamp(it.retry_at),
        error=chat_error(it.error),
        turn_id=it.turn_id,
    )


def _compaction_finished(it: CompactionFinished) -> event_pb2.CompactionFinished:
    return event_pb2.CompactionFinished(
        source=_SOURCE[it.source],
        boundary_position=it.boundary_position,
        tokens_before=it.tokens_before,
        tokens_after=it.tokens_after,
        outcome=_OUTCOME[it.outcome],
        attempt_id=it.attempt_id,
        summary=it.summary,
        used_percent=it.used_percent,
        threshold_percent=it.threshold_percent,
        limit_tokens=it.limit,
        error=None if it.error is None else chat_error(it.error),
    )


def _chat_updated(it: ChatUpdated) -> event_pb2.ChatUpdated:
    return event_pb2.ChatUpdated(
        title=it.title,
        model=it.model,
        labels=None if it.labels is None else event_pb2.Labels(entries=it.labels),
        system_prompt=it.system_prompt,
        tools=None if it.tools is None else event_pb2.ToolNames(names=it.tools),
    )


def _subagent_changed(it: SubagentChanged) -> event_pb2.SubagentChanged:
    return event_pb2.SubagentChanged(
        chat_id=it.chat_id,
        status=status(it.status),
        title=it.title,
        tool_call_id=it.call_id,
        archived=it.archived,
        deleted=it.deleted,
    )


# --- the snapshot ----------------------------------------------------------------------------


def snapshot(state: ChatState, level: ContextLevel | None = None) -> event_pb2.Snapshot:
    """Return a chat as it is, without its messages.

    Arguments of pending calls are cut as in `action_required`: with every limit of a chat at its
    maximum, a snapshot stays below RESPONSE_BYTES_MAX.
    """
    action = pending_action(state)
    if action is not None:
        for call, shown in zip(action.tool_calls, pending_calls(state.calls), strict=True):
            call.arguments_json = shown.arguments
    return event_pb2.Snapshot(
        chat=chat(state),
        context=context_level(level),
        queue=[queued_entry(it) for it in state.queue],
        pending_action=action,
    )


def queued_entry(it: Queued) -> event_pb2.QueueEntry:
    """Return one message of the queue, shortened as `queue_changed` shortens it."""
    return event_pb2.QueueEntry(message_id=it.id, preview=preview(it.parts))
