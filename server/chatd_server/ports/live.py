"""Where a worker shows an answer in progress."""

from typing import Protocol

from chatd_server.domain.ids import AttemptId, ChatId
from chatd_server.domain.live import PieceKind, PieceValue


class AttemptWriter(Protocol):
    """The live parts of one open attempt. No method awaits: a writer never waits for a reader.

    Every method raises `ModelFailure(output_too_large)` beyond the limit of the attempt, and
    does nothing once the attempt is closed.
    """

    def add(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        """Show something that is never cut: a part that came at once, the head of a tool call, or
        what happens to a tool (part 0).
        """

    def add_when_committed(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        """Show the same as `add`, but only once the attempt is committed, before its message:
        what no journal holds yet must not be told as a fact.
        """

    def append(self, part: int, kind: PieceKind, text: str) -> None:
        """Show more of a part that grows: words, or arguments of a call whose head was added."""

    def abandon(self) -> None:
        """Void everything shown: the attempt will not be committed. Idempotent."""


class Live(Protocol):
    """Where the worker shows an answer in progress."""

    def open(self, chat_id: ChatId, attempt_id: AttemptId, base_sequence: int) -> AttemptWriter:
        """Open an attempt. It is closed by the committed event that names it."""
