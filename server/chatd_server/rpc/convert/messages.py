"""Messages, their parts and their usage.

`native`, vendor ids and everything else that only a vendor may see stop here: the contract has
no field for them, and nothing in `convert` reads them.
"""

from typing import assert_never

from chatd.v1 import message_pb2
from chatd_server.domain.chat import Queued
from chatd_server.domain.ids import ChatId
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
    ResultFile,
    Role,
    Source,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
    Usage,
    Visibility,
)
from chatd_server.rpc.convert.times import timestamp

_ROLE = {it: message_pb2.Role.Value(f"ROLE_{it.name}") for it in Role}
_VISIBILITY = {it: message_pb2.Visibility.Value(f"VISIBILITY_{it.name}") for it in Visibility}
_FINISH = {it: message_pb2.FinishReason.Value(f"FINISH_REASON_{it.name}") for it in FinishReason}
_EXECUTOR = {it: message_pb2.ToolExecutor.Value(f"TOOL_EXECUTOR_{it.name}") for it in Executor}
_TOOL_ERROR = {
    it: message_pb2.ToolErrorKind.Value(f"TOOL_ERROR_KIND_{it.name}") for it in ToolErrorKind
}


def executor(value: Executor) -> message_pb2.ToolExecutor.ValueType:
    return _EXECUTOR[value]


def result_file(it: ResultFile) -> message_pb2.ResultFile:
    return message_pb2.ResultFile(
        file_id=it.file_id, media_type=it.media_type, file_name=it.file_name
    )


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
        files=map(result_file, it.files),
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
    wire = message_pb2.FilePart(media_type=it.media_type, file_name=it.file_name)
    if it.data is not None:
        wire.data = it.data
    elif it.file_id:
        wire.file_id = it.file_id
    return wire


def file_reference(it: FileReference) -> message_pb2.FileReferencePart:
    return message_pb2.FileReferencePart(
        file_name=it.file_name,
        start_line=it.start_line,
        end_line=it.end_line,
        content=it.content,
    )


def part(it: Part) -> message_pb2.Part:
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


def usage(it: Usage) -> message_pb2.Usage:
    """Return token counts; what the vendor did not report stays absent."""
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
    return message_pb2.QueuedMessage(
        message_id=it.id,
        parts=[part(piece) for piece in it.parts],
        create_time=timestamp(it.created_at),
    )
