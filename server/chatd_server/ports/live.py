"""Where a worker shows an answer in progress."""

from typing import Protocol

from chatd_server.domain.event import CompactionSource
from chatd_server.domain.ids import AttemptId, ChatId, ToolCallId
from chatd_server.domain.message import Executor, Part, ToolResult


class AttemptWriter(Protocol):
    """The live parts of one open attempt. No method awaits: a writer never waits for a reader.

    Every method raises `ModelFailure(output_too_large)` beyond the limit of the attempt, and
    does nothing once the attempt is closed.
    """

    def text(self, part: int, text: str) -> None:
        """Append text to a text part."""

    def reasoning(self, part: int, text: str) -> None:
        """Append text to a reasoning part."""

    def refusal(self, part: int, text: str) -> None:
        """Append text to a refusal part."""

    def call(
        self, part: int, call_id: ToolCallId, name: str, executor: Executor, arguments: str
    ) -> None:
        """Append arguments to a tool call; empty arguments announce it."""

    def whole(self, part: int, value: Part) -> None:
        """Add a part that came at once."""

    def tool_started(self, call_id: ToolCallId, name: str) -> None:
        """Say that a tool of ours began."""

    def tool_finished(self, result: ToolResult) -> None:
        """Show the result of a tool of ours."""

    def compaction_started(self, source: CompactionSource) -> None:
        """Say that a compaction began."""

    def abandon(self) -> None:
        """Void everything shown: the attempt will not be committed. Idempotent."""


class Live(Protocol):
    """Where the worker shows an answer in progress."""

    def open(self, chat_id: ChatId, attempt_id: AttemptId, base_sequence: int) -> AttemptWriter:
        """Open an attempt. It is closed by the committed event that names it."""
