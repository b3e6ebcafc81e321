"""Encodes our messages as Anthropic's, each of them once.

Neighbours with the same role become one message, because results of parallel calls must be in one
user message. All but the last two messages are kept as one growing byte string; only the last two
carry cache marks. So step 200 costs as much as step 10.
"""

from collections.abc import Sequence

import msgspec

from chatd_server.domain.json_text import is_json
from chatd_server.domain.limits import KIB, MIB
from chatd_server.domain.message import (
    Executor,
    File,
    FileReference,
    FinishReason,
    Message,
    Part,
    Reasoning,
    ResultFile,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from chatd_server.providers.anthropic.errors import PROVIDER

MARKED_MESSAGES = 2
"""Cache marks on the last messages; with the mark on the system text, below Anthropic's limit of
four.
"""

QUICK_MESSAGES_MAX = 64
QUICK_BYTES_MAX = 512 * KIB
QUICK_COPIED_BYTES_MAX = 4 * MIB
"""Limit for encoding on the event loop, for new bytes and copied bytes: some milliseconds. Nearly
every answer with its results is below it."""
_JSON_SPACE = " \t\n\r"
_PART_BYTES = 256
"""The fixed cost of encoding a part, as a number of bytes."""

_MARK = b',"cache_control":{"type":"ephemeral"}}'
_encode = msgspec.json.encode


class _Block(msgspec.Struct, gc=False):
    """One encoded block. `call_id` names a provider's call without a result."""

    json: bytes
    call_id: str = ""
    #: Anthropic rejects cache marks on thinking blocks.
    can_be_marked: bool = True


class _Group:
    """One unfinished Anthropic message: the blocks of neighbours with the same role."""

    __slots__ = ("blocks", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.blocks: list[_Block] = []

    def encoded(self, *, marked: bool, is_last: bool) -> bytes:
        """Return the message as JSON.

        Leaves out a provider's call without a result, unless the vendor paused there and will
        continue.
        """
        blocks = [block for block in self.blocks if is_last or not block.call_id]
        texts = [block.json for block in blocks]
        if marked:
            for index in range(len(blocks) - 1, -1, -1):
                if blocks[index].can_be_marked:
                    texts[index] = texts[index][:-1] + _MARK
                    break
        return b'{"role":"%b","content":[%b]}' % (self.role.encode(), b",".join(texts))


class MessageEncoder:
    """Encodes the messages of one run; each call adds only the new ones."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._seen = 0
        self._newest: Message | None = None
        self._sealed = bytearray()
        self._groups: list[_Group] = []
        self._vendor_ids: dict[str, str] = {}
        self._taken: set[str] = set()

    def is_quick(self, messages: Sequence[Message]) -> bool:
        """Return whether `pieces` is fast: there is little to encode and little to copy."""
        new = messages[self._seen :] if self._seen <= len(messages) else messages
        return (
            len(new) <= QUICK_MESSAGES_MAX
            and len(self._sealed) <= QUICK_COPIED_BYTES_MAX
            and sum(map(_size, new)) <= QUICK_BYTES_MAX
        )

    def encoded(self, messages: Sequence[Message]) -> bytes:
        """Return the messages as JSON items, joined by commas."""
        return b"".join(self.pieces(messages))

    def pieces(self, messages: Sequence[Message]) -> tuple[bytearray, bytes]:
        """Return the same in two pieces. Join them at once: the first is our own growing buffer.

        A long history has hundreds of kilobytes, so the caller copies it once, into the body.
        """
        if self._seen > len(messages) or (
            self._seen and messages[self._seen - 1] is not self._newest
        ):
            self.__init__(self._model)  # type: ignore[misc]  # another history: start over
        for index in range(self._seen, len(messages)):
            self._add(messages[index])
        self._seen = len(messages)
        self._newest = messages[-1] if messages else None
        self._seal()
        tail = [
            group.encoded(marked=True, is_last=group is self._groups[-1])
            for group in self._groups
            if group.blocks
        ]
        return self._sealed, b",".join(tail)

    def _seal(self) -> None:
        """Move all but the last groups to the sealed bytes; those still change and carry marks."""
        while len(self._groups) > MARKED_MESSAGES:
            group = self._groups.pop(0)
            encoded = group.encoded(marked=False, is_last=False)
            if not encoded.endswith(b"[]}"):
                self._sealed += encoded + b","

    def _add(self, message: Message) -> None:
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = [block for part in message.parts if (block := self._block(part)) is not None]
        if not blocks:
            return
        if not self._groups or self._groups[-1].role != role:
            self._groups.append(_Group(role))
        group = self._groups[-1]
        group.blocks += blocks
        answered = {part.call_id for part in message.results}
        for block in group.blocks:
            if block.call_id in answered:
                block.call_id = ""
        if role == "assistant" and message.finish_reason is not FinishReason.PAUSED:
            group.blocks = [block for block in group.blocks if not block.call_id]

    def _block(self, part: Part) -> _Block | None:
        """Return the part as a block; None for a part that this vendor does not get."""
        if isinstance(part, Text):
            return self._native(part) or (_Block(_text(part.text)) if part.text.strip() else None)
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Reasoning):
            block = self._native(part)
            if block is not None:
                block.can_be_marked = False
            return block
        if isinstance(part, FileReference):
            return _Block(_text(_reference(part)))
        if isinstance(part, File):
            return _file(part)
        return self._native(part)

    def _native(self, part: Part) -> _Block | None:
        """Return the vendor's own block if this adapter may send it back."""
        native = getattr(part, "native", None)
        if native is None or native.provider != PROVIDER:
            return None
        if native.model and native.model != self._model:
            return None
        return _Block(native.json.encode())

    def _call(self, call: ToolCall) -> _Block | None:
        native = self._native(call)
        if call.executor is Executor.PROVIDER:
            if native is not None:
                native.call_id = call.id
            return native
        taken = call.vendor_id in self._taken
        vendor_id = call.vendor_id if call.vendor_id.startswith("toolu_") and not taken else call.id
        self._vendor_ids[call.id] = vendor_id
        self._taken.add(vendor_id)
        if native is not None and vendor_id == call.vendor_id:
            return native
        return _Block(
            _encode(
                {
                    "type": "tool_use",
                    "id": vendor_id,
                    "name": call.name,
                    "input": _object(call.arguments),
                }
            )
        )

    def _result(self, result: ToolResult) -> _Block | None:
        if result.executor is Executor.PROVIDER:
            return self._native(result)
        block: dict[str, object] = {
            "type": "tool_result",
            "tool_use_id": self._vendor_ids.get(result.call_id, result.call_id),
        }
        if content := "\n".join((*filter(None, [result.output]), *map(_named, result.files))):
            block["content"] = content
        if result.error is not None:
            block["is_error"] = True
        return _Block(_encode(block))


def _size(message: Message) -> int:
    """Estimate the size of a message in bytes, as a measure of the time to encode it."""
    size = 0
    for part in message.parts:
        size += _PART_BYTES
        if isinstance(part, Text | Reasoning):
            size += len(part.text)
        elif isinstance(part, ToolCall):
            size += len(part.arguments)
        elif isinstance(part, ToolResult):
            size += len(part.output)
        elif isinstance(part, FileReference):
            size += len(part.content)
        elif isinstance(part, File):
            size += len(part.data or b"")
    return size


def _text(text: str) -> bytes:
    return _encode({"type": "text", "text": text})


def _object(arguments: str) -> object:
    """Return a call's arguments unchanged; a truncated call, which never ran, has none."""
    is_object = arguments.lstrip(_JSON_SPACE).startswith("{") and is_json(arguments)
    return msgspec.Raw(arguments.encode()) if is_object else {}


def _named(file: ResultFile) -> str:
    """Describe a file of a result to the model."""
    return f"[file {file.file_name or file.file_id} ({file.media_type})]"


def _reference(part: FileReference) -> str:
    lines = f" lines {part.start_line} to {part.end_line}" if part.start_line else ""
    return f"[file {part.file_name}{lines}]\n{part.content}"


def _file(part: File) -> _Block | None:
    if part.data is None:
        return None
    kind = "image" if part.media_type.startswith("image/") else "document"
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return _Block(_encode({"type": kind, "source": source}))
