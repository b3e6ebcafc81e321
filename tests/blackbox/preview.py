"""The pieces of one attempt, as a subscriber collects them, and their guarantees."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field

from chatd.v1 import event_pb2, message_pb2

WORDS = ("text", "reasoning", "refusal")


@dataclass
class PartSoFar:
    """The received pieces of one part of the answer."""

    kind: str
    words: str = ""
    call: message_pb2.ToolCallPart | None = None
    whole: message_pb2.Part | None = None

    def differs(self, part: message_pb2.Part, *, whole: bool) -> bool:
        """Return whether a committed part contradicts the pieces; if not `whole`, it may go on."""
        if self.whole is not None:
            return self.whole != part
        if part.WhichOneof("kind") != self.kind:
            return True
        if self.call is not None and not _same_call(self.call, part.tool_call):
            return True
        committed = words_of(part)
        return committed != self.words if whole else not committed.startswith(self.words)


@dataclass
class Preview:
    """The pieces of one attempt, without gaps from its first byte."""

    attempt_id: str
    end: int = 0
    parts: dict[int, PartSoFar] = field(default_factory=dict)
    results: dict[str, message_pb2.ToolResultPart] = field(default_factory=dict)

    def copy(self) -> "Preview":
        """Return an independent copy."""
        parts = {index: copy(part) for index, part in self.parts.items()}
        return Preview(self.attempt_id, self.end, parts, dict(self.results))

    def add(self, event: event_pb2.ChatEvent, end: int) -> str | None:
        """Append a piece that ends at this offset; return a violation, if any."""
        kind = event.WhichOneof("event")
        piece = getattr(event, str(kind))
        if piece.delta_offset != self.end:
            return f"a piece begins at byte {piece.delta_offset}, but {self.end} bytes had come"
        if end <= self.end:
            return f"a piece begins at byte {self.end} and the cursor after it is at {end}"
        if kind == "message_part" and (said := _words_of_piece(piece)) is not None:
            size = len(said.encode())
            if end - self.end != size:
                return f"{size} bytes of words move the cursor by {end - self.end}"
        self.end = end
        if kind == "message_part":
            return self._add_part(piece)
        if kind == "tool_call_finished":
            self.results[piece.result.tool_call_id] = piece.result
        return None

    def _add_part(self, piece: event_pb2.MessagePart) -> str | None:
        index, kind = piece.part_index, str(piece.WhichOneof("piece"))
        if index < max(self.parts, default=0):
            return f"a piece of part {index} follows pieces of part {max(self.parts)}"
        known = self.parts.setdefault(index, PartSoFar(kind))
        if known.kind != kind:
            return f"part {index} was {known.kind} and goes on as {kind}"
        if kind == "tool_call":
            known.words += piece.tool_call.arguments_json
            known.call = message_pb2.ToolCallPart(
                tool_call_id=piece.tool_call.tool_call_id,
                tool_name=piece.tool_call.tool_name,
                executor=piece.tool_call.executor,
            )
        elif kind == "part":
            if known.whole is not None:
                return f"part {index} came at once, and twice"
            known.whole = piece.part
        else:
            known.words += str(getattr(piece, kind))
        return None

    def contradiction(self, message: message_pb2.Message, *, whole: bool) -> str | None:
        """Compare with the committed message: a prefix of it or, with `whole`, all of it."""
        if message.role == message_pb2.ROLE_TOOL:
            return self._contradicting_result(message)
        last = max(self.parts, default=-1)
        if last >= len(message.parts):
            return f"pieces of part {last}, but the message has {len(message.parts)} parts"
        for index, part in enumerate(message.parts):
            complete = whole or index < last
            known = self.parts.get(index)
            if known is None and complete and not _needs_no_piece(part):
                return f"no piece came of part {index}"
            if known is not None and known.differs(part, whole=complete):
                return f"part {index} was {known.words or known.whole!r} in pieces"
        return None

    def _contradicting_result(self, message: message_pb2.Message) -> str | None:
        for result in results_of(message):
            shown = self.results.get(result.tool_call_id)
            if shown is not None and shown != result:
                return f"the result of {result.tool_call_id} was {shown!r} when it finished"
        return None


def results_of(message: message_pb2.Message) -> Iterator[message_pb2.ToolResultPart]:
    for part in message.parts:
        if part.HasField("tool_result"):
            yield part.tool_result


def words_of(part: message_pb2.Part) -> str:
    """Return the text of a part that arrives in pieces."""
    kind = part.WhichOneof("kind")
    if kind == "tool_call":
        return part.tool_call.arguments_json
    return str(getattr(part, kind).text) if kind in WORDS else ""


def _words_of_piece(piece: event_pb2.MessagePart) -> str | None:
    kind = piece.WhichOneof("piece")
    return str(getattr(piece, kind)) if kind in WORDS else None


def _same_call(shown: message_pb2.ToolCallPart, committed: message_pb2.ToolCallPart) -> bool:
    return (shown.tool_call_id, shown.tool_name, shown.executor) == (
        committed.tool_call_id,
        committed.tool_name,
        committed.executor,
    )


def _needs_no_piece(part: message_pb2.Part) -> bool:
    """Return whether the part is empty text: it has no bytes, and so no piece."""
    return part.WhichOneof("kind") in WORDS and not words_of(part)
