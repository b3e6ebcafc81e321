"""Values of the domain to messages of the contract and back, one small function per type.

`native`, vendor ids and everything else that only a vendor may see stop here: the contract has
no field for them, and nothing in this file reads them.
"""

from collections.abc import Sequence
from typing import assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chatd.v1 import chat_pb2, error_pb2, message_pb2, tool_pb2
from chatd_server.domain.chat import (
    ChatState,
    ClientTool,
    OpenCall,
    Queued,
    Status,
    StopReason,
)
from chatd_server.domain.event import Cursor
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import MICROSECONDS, AttemptId, ChatId, Instant
from chatd_server.domain.machine_calls import is_wanted
from chatd_server.domain.machine_events import open_turn_id
from chatd_server.domain.message import (
    Executor,
    File,
    FileReference,
    FinishReason,
    Message,
    Part,
    ProviderNote,
    Reasoning,
    Refusal,
    Role,
    Source,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
    Usage,
    Visibility,
)

ETAG_PREFIX = "v"
"""An etag is the version of a chat's config behind this letter, so that nobody does sums on it."""

_STATUS = {it: chat_pb2.ChatStatus.Value(f"CHAT_STATUS_{it.name}") for it in Status}
_STOP_REASON = {it: chat_pb2.StopReason.Value(f"STOP_REASON_{it.name}") for it in StopReason}
_ROLE = {it: message_pb2.Role.Value(f"ROLE_{it.name}") for it in Role}
_VISIBILITY = {it: message_pb2.Visibility.Value(f"VISIBILITY_{it.name}") for it in Visibility}
_FINISH = {it: message_pb2.FinishReason.Value(f"FINISH_REASON_{it.name}") for it in FinishReason}
_EXECUTOR = {it: message_pb2.ToolExecutor.Value(f"TOOL_EXECUTOR_{it.name}") for it in Executor}
_TOOL_ERROR = {
    it: message_pb2.ToolErrorKind.Value(f"TOOL_ERROR_KIND_{it.name}") for it in ToolErrorKind
}
_ERROR_KIND = {it: error_pb2.ErrorKind.Value(f"ERROR_KIND_{it.name}") for it in ErrorKind}


# --- time ----------------------------------------------------------------------------------


def timestamp(at: Instant) -> Timestamp:
    """Return a moment as the contract writes it."""
    seconds, micros = divmod(at, MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def duration(seconds: float) -> Duration:
    """Return a span, to the microsecond; not for negative spans."""
    whole, micros = divmod(round(seconds * MICROSECONDS), MICROSECONDS)
    return Duration(seconds=whole, nanos=micros * 1000)


def seconds_of(span: Duration) -> float:
    """Return a span in seconds."""
    return span.seconds + span.nanos / 1e9


# --- enums that others need by themselves ----------------------------------------------------


def status(value: Status) -> chat_pb2.ChatStatus.ValueType:
    """Return a status as the contract numbers it."""
    return _STATUS[value]


def stop_reason(value: StopReason | None) -> chat_pb2.StopReason.ValueType:
    """Return a stop reason; None (a turn is open) is unspecified."""
    return chat_pb2.STOP_REASON_UNSPECIFIED if value is None else _STOP_REASON[value]


def executor(value: Executor) -> message_pb2.ToolExecutor.ValueType:
    """Return an executor as the contract numbers it."""
    return _EXECUTOR[value]


# --- parts -----------------------------------------------------------------------------------


def tool_result(it: ToolResult) -> message_pb2.ToolResultPart:
    """Return a tool result without the vendor's own block."""
    wire = message_pb2.ToolResultPart(
        tool_call_id=it.call_id,
        tool_name=it.name,
        is_error=it.error is not None,
        error_kind=(
            message_pb2.TOOL_ERROR_KIND_UNSPECIFIED if it.error is None else _TOOL_ERROR[it.error]
        ),
        truncated=it.truncated,
        executor=_EXECUTOR[it.executor],
        create_time=timestamp(it.created_at),
    )
    if it.is_json:
        wire.output_json = it.output
    else:
        wire.output_text = it.output
    return wire


def tool_call(it: ToolCall) -> message_pb2.ToolCallPart:
    """Return a tool call without the vendor's id and block."""
    return message_pb2.ToolCallPart(
        tool_call_id=it.id,
        tool_name=it.name,
        arguments_json=it.arguments,
        executor=_EXECUTOR[it.executor],
        create_time=timestamp(it.created_at),
    )


def file(it: File) -> message_pb2.FilePart:
    """Return a file."""
    wire = message_pb2.FilePart(media_type=it.media_type, file_name=it.file_name)
    if it.data is not None:
        wire.data = it.data
    elif it.file_id:
        wire.file_id = it.file_id
    return wire


def file_reference(it: FileReference) -> message_pb2.FileReferencePart:
    """Return a place in a file of the client's."""
    return message_pb2.FileReferencePart(
        file_name=it.file_name,
        start_line=it.start_line,
        end_line=it.end_line,
        content=it.content,
    )


def part(it: Part) -> message_pb2.Part:
    """Return one part of a message."""
    match it:
        case Text():
            return message_pb2.Part(text=message_pb2.TextPart(text=it.text))
        case Reasoning():
            return message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=it.text))
        case ToolCall():
            return message_pb2.Part(tool_call=tool_call(it))
        case ToolResult():
            return message_pb2.Part(tool_result=tool_result(it))
        case Source():
            source = message_pb2.SourcePart(url=it.url, title=it.title, cited_text=it.cited_text)
            return message_pb2.Part(source=source)
        case File():
            return message_pb2.Part(file=file(it))
        case FileReference():
            return message_pb2.Part(file_reference=file_reference(it))
        case Refusal():
            return message_pb2.Part(refusal=message_pb2.RefusalPart(text=it.text))
        case ProviderNote():
            note = message_pb2.ProviderNotePart(provider=it.provider, block_type=it.block_type)
            return message_pb2.Part(provider_note=note)
        case _:
            assert_never(it)


# --- messages --------------------------------------------------------------------------------


def usage(it: Usage) -> message_pb2.Usage:
    """Return token counts; what the vendor did not say stays absent."""
    return message_pb2.Usage(
        input_tokens=it.input_tokens,
        output_tokens=it.output_tokens,
        reasoning_tokens=it.reasoning_tokens,
        cache_read_tokens=it.cache_read_tokens,
        cache_write_tokens=it.cache_write_tokens,
        context_tokens=it.context_tokens,
        context_limit=it.context_limit,
        cost_micros=it.cost_micros,
    )


def message(chat_id: ChatId, it: Message) -> message_pb2.Message:
    """Return one durable message of a chat."""
    return message_pb2.Message(
        message_id=it.id,
        chat_id=chat_id,
        position=it.position,
        role=_ROLE[it.role],
        visibility=_VISIBILITY[it.visibility],
        parts=[part(piece) for piece in it.parts],
        turn_id=it.turn_id,
        attempt_id=it.attempt_id,
        model=it.model,
        finish_reason=(
            message_pb2.FINISH_REASON_UNSPECIFIED
            if it.finish_reason is None
            else _FINISH[it.finish_reason]
        ),
        usage=None if it.usage is None else usage(it.usage),
        compressed=it.compressed,
        create_time=timestamp(it.created_at),
        sequence=it.sequence,
    )


def queued_message(it: Queued) -> message_pb2.QueuedMessage:
    """Return a message that waits for its turn."""
    return message_pb2.QueuedMessage(
        message_id=it.id,
        parts=[part(piece) for piece in it.parts],
        create_time=timestamp(it.created_at),
    )


# --- errors ----------------------------------------------------------------------------------


def chat_error(it: ChatError) -> error_pb2.ChatError:
    """Return a model's failure."""
    return error_pb2.ChatError(
        kind=_ERROR_KIND[it.kind],
        message=it.message,
        detail=it.detail,
        provider=it.provider,
        retryable=it.retryable,
        http_status=it.http_status,
        retry_after=(None if it.retry_after_seconds is None else duration(it.retry_after_seconds)),
    )


# --- tools and actions -----------------------------------------------------------------------


def tool_definition(it: ClientTool) -> tool_pb2.ToolDefinition:
    """Return a client tool."""
    return tool_pb2.ToolDefinition(
        name=it.name, description=it.description, input_schema_json=it.input_schema
    )


def _pending_call(it: OpenCall) -> tool_pb2.PendingToolCall:
    return tool_pb2.PendingToolCall(
        tool_call_id=it.id,
        tool_name=it.name,
        arguments_json=it.arguments,
        create_time=timestamp(it.created_at),
        answered=it.outcome is not None,
    )


def pending_action(state: ChatState) -> tool_pb2.PendingAction | None:
    """Return what a chat waits for, calls that have their result already included; None unless it
    is in `requires_action`.
    """
    return _action(state, [it for it in state.calls if it.executor is Executor.CLIENT])


def wanted_action(state: ChatState) -> tool_pb2.PendingAction | None:
    """Return what a chat still waits for; None unless it is in `requires_action`."""
    return _action(state, [it for it in state.calls if is_wanted(it)])


def _action(state: ChatState, calls: Sequence[OpenCall]) -> tool_pb2.PendingAction | None:
    if state.action is None:
        return None
    return tool_pb2.PendingAction(
        chat_id=state.id,
        turn_id=state.action.turn_id,
        tool_calls=[_pending_call(it) for it in calls],
        deadline=timestamp(state.action.deadline),
        sequence=state.action.sequence,
    )


# --- chats -----------------------------------------------------------------------------------


def chat(it: ChatState) -> chat_pb2.Chat:
    """Return a chat as its owner sees it."""
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
        turn_id=open_turn_id(it),
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
    )


def tool_definitions(tools: Sequence[ClientTool]) -> list[tool_pb2.ToolDefinition]:
    """Return client tools."""
    return [tool_definition(it) for it in tools]


def cursor(it: Cursor) -> chat_pb2.Cursor:
    """Return a position in what a stream sends."""
    return chat_pb2.Cursor(
        sequence=it.sequence,
        attempt_id=it.attempt_id,
        delta_offset=it.delta_offset,
        snapshot_unfinished=it.snapshot_unfinished,
    )


def cursor_from(wire: chat_pb2.Cursor) -> Cursor:
    """Return a position in what a stream sends."""
    return Cursor(
        sequence=wire.sequence,
        attempt_id=AttemptId(wire.attempt_id),
        delta_offset=wire.delta_offset,
        snapshot_unfinished=wire.snapshot_unfinished,
    )
