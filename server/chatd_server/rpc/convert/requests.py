"""What requests carry, as values of the domain.

Nothing here refuses: what is invalid or not implemented was refused before.
"""

from collections.abc import Iterable

import msgspec

from chatd.v1 import chat_pb2, chat_service_pb2, message_pb2, tool_pb2
from chatd_server.domain.chat import ChatConfig, ClientTool, Effort, Status, TurnOptions
from chatd_server.domain.command import BusyBehavior, SubmittedResult
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.message import File, FileReference, Part, Text
from chatd_server.rpc.convert.chats import ETAG_PREFIX
from chatd_server.rpc.convert.times import seconds_of

ETAG_DIGITS_MAX = 18
"""No chat is changed more often."""

_STATUS = {chat_pb2.ChatStatus.Value(f"CHAT_STATUS_{it.name}"): it for it in Status}
_EFFORT = {chat_pb2.ReasoningEffort.Value(f"REASONING_EFFORT_{it.name}"): it for it in Effort}
_BUSY = {chat_pb2.BusyBehavior.Value(f"BUSY_BEHAVIOR_{it.name}"): it for it in BusyBehavior}


def statuses_from(values: Iterable[chat_pb2.ChatStatus.ValueType]) -> tuple[Status, ...]:
    """Return statuses of a filter; the unspecified one is ignored."""
    return tuple(_STATUS[value] for value in dict.fromkeys(values) if value in _STATUS)


def busy_from(value: chat_pb2.BusyBehavior.ValueType) -> BusyBehavior:
    """Return what to do with a busy chat; unspecified means QUEUE."""
    return _BUSY.get(value, BusyBehavior.QUEUE)


def turn_options_from(wire: chat_pb2.TurnOptions) -> TurnOptions:
    """Return the choices for one turn; what is absent stays unset."""
    return TurnOptions(
        model=wire.model,
        effort=_EFFORT.get(wire.reasoning_effort),
        max_steps=wire.max_steps if wire.HasField("max_steps") else None,
        max_output_tokens=wire.max_output_tokens if wire.HasField("max_output_tokens") else None,
        temperature=wire.temperature if wire.HasField("temperature") else None,
    )


def file_reference_from(wire: message_pb2.FileReferencePart) -> FileReference:
    return FileReference(
        file_name=wire.file_name,
        start_line=wire.start_line,
        end_line=wire.end_line,
        content=wire.content,
    )


def file_from(wire: message_pb2.FilePart) -> File:
    return File(
        media_type=wire.media_type,
        file_name=wire.file_name,
        data=wire.data if wire.HasField("data") else None,
        file_id=wire.file_id,
    )


def user_parts_from(wire: message_pb2.UserMessage) -> tuple[Part, ...]:
    """Return the parts of a user's message; an unknown kind of part becomes empty text."""
    return tuple(_user_part_from(piece) for piece in wire.parts)


def _user_part_from(wire: message_pb2.UserPart) -> Part:
    match wire.WhichOneof("kind"):
        case "file_reference":
            return file_reference_from(wire.file_reference)
        case "file":
            return file_from(wire.file)
        case _:
            return Text(wire.text.text)


def chat_config_from(request: chat_service_pb2.CreateChatRequest) -> ChatConfig:
    """Return the config of a new chat; what is absent has the default of the domain."""
    config = ChatConfig(
        title=request.title,
        model=request.model,
        system_prompt=request.system_prompt,
        labels=dict(request.labels),
        tools=tuple(tool_definition_from(it) for it in request.tools),
    )
    if not request.HasField("action_timeout"):
        return config
    timeout = seconds_of(request.action_timeout)
    return msgspec.structs.replace(config, action_timeout_seconds=timeout)


CHANGEABLE = ("title", "labels", "model", "system_prompt", "tools", "action_timeout")
"""The fields of a chat that UpdateChat may name. A new chat has them under the same names."""


def changed_fields(request: chat_service_pb2.UpdateChatRequest) -> set[str]:
    """Return the fields that an update reads: those of its mask, else all that are set."""
    named = set(request.update_mask.paths) or {it.name for it, _ in request.chat.ListFields()}
    return named.intersection(CHANGEABLE)


def as_new_chat(
    request: chat_service_pb2.UpdateChatRequest,
) -> chat_service_pb2.CreateChatRequest:
    """Return the fields that an update reads, and no others, as those of a new chat."""
    wanted = chat_service_pb2.CreateChatRequest()
    for name in changed_fields(request):
        match name:
            case "labels":
                wanted.labels.update(request.chat.labels)
            case "tools":
                wanted.tools.extend(request.chat.tools)
            case "action_timeout":
                if request.chat.HasField("action_timeout"):
                    wanted.action_timeout.CopyFrom(request.chat.action_timeout)
            case "title" | "model" | "system_prompt":
                setattr(wanted, name, getattr(request.chat, name))
    return wanted


def chat_changes_from(request: chat_service_pb2.UpdateChatRequest) -> dict[str, object]:
    """Return the fields that an update reads, as the command names them."""
    config = chat_config_from(as_new_chat(request))
    names = {it: it for it in CHANGEABLE} | {"action_timeout": "action_timeout_seconds"}
    return {names[it]: getattr(config, names[it]) for it in changed_fields(request)}


def etag_version_from(etag: str) -> int | None:
    """Return the version of the config that an etag stands for; None for no etag, and one that no
    chat has for text that is none of ours.
    """
    if not etag:
        return None
    digits = etag.removeprefix(ETAG_PREFIX)
    is_ours = etag.startswith(ETAG_PREFIX) and digits.isascii() and digits.isdigit()
    return int(digits[:ETAG_DIGITS_MAX]) if is_ours else 0


def tool_definition_from(wire: tool_pb2.ToolDefinition) -> ClientTool:
    return ClientTool(
        name=wire.name, description=wire.description, input_schema=wire.input_schema_json
    )


def submitted_result_from(wire: tool_pb2.ToolResultInput) -> SubmittedResult:
    is_json = wire.WhichOneof("output") == "output_json"
    return SubmittedResult(
        call_id=ToolCallId(wire.tool_call_id),
        output=wire.output_json if is_json else wire.output_text,
        is_json=is_json,
        is_error=wire.is_error,
    )
