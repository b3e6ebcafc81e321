"""How a worker shows an answer in progress."""

from chatd_server.domain.event import CompactionSource
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import Executor, Part, ToolResult
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.overlay import Overlay, OverlayStatus


class AttemptOverlayWriter:
    """Writes one attempt; `ports.AttemptWriter`. Does nothing once the attempt is over."""

    __slots__ = ("_chat", "_overlay")

    def __init__(self, overlay: Overlay, chat: LiveChat) -> None:
        self._overlay = overlay
        self._chat = chat

    def text(self, part: int, text: str) -> None:
        """Append text to a text part."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, PieceKind.TEXT, text)
            self._chat.wake()

    def reasoning(self, part: int, text: str) -> None:
        """Append text to a reasoning part."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, PieceKind.REASONING, text)
            self._chat.wake()

    def refusal(self, part: int, text: str) -> None:
        """Append text to a refusal part."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, PieceKind.REFUSAL, text)
            self._chat.wake()

    def call(
        self, part: int, call_id: ToolCallId, name: str, executor: Executor, arguments: str
    ) -> None:
        """Append arguments to a tool call; empty arguments announce it."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_call(part, call_id, name, executor, arguments)
            self._chat.wake()

    def whole(self, part: int, value: Part) -> None:
        """Add a part that came at once."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_whole(part, value)
            self._chat.wake()

    def tool_started(self, call_id: ToolCallId, name: str) -> None:
        """Say that a tool of ours began."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_tool_started(call_id, name)
            self._chat.wake()

    def tool_finished(self, result: ToolResult) -> None:
        """Show the result of a tool of ours."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_tool_finished(result)
            self._chat.wake()

    def compaction_started(self, source: CompactionSource) -> None:
        """Say that a compaction began."""
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append_compaction_started(source)
            self._chat.wake()

    def abandon(self) -> None:
        """Void everything shown, unless the log has closed the attempt."""
        self._chat.void_attempt(self._overlay)
