"""An answer in the format of the recordings' expectations, and two ways to compute it.

`folded` uses our parts; `plain_anthropic` decodes a whole body at once, as simply as
possible, and shares no code with the adapter.
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from chatd_server.domain.answer_parts import (
    AnswerPart,
    CallStarted,
    Delta,
    Finished,
    PartEnded,
    ProviderResult,
    Restarted,
    UsageSeen,
    WholePart,
)
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import (
    FinishReason,
    Native,
    ProviderNote,
    Reasoning,
    Source,
    Usage,
)


class Answer(msgspec.Struct):
    """The content of a whole answer."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = []
    server_tools: list[dict[str, Any]] = []
    stop: FinishReason | None = None
    usage: dict[str, int] = {}
    blocks: list[str] = []
    citations: int = 0


class _Call(msgspec.Struct):
    started: CallStarted
    arguments: str = ""
    native: Native | None = None
    ended: bool = False


class Fold:
    """Folds parts into an answer; `answer` is None until Finished arrives."""

    def __init__(self) -> None:
        self._reset()
        self.answer: Answer | None = None

    def _reset(self) -> None:
        self._pieces: dict[int, Any] = {}
        self._native: dict[int, Native | None] = {}

    def add(self, part: AnswerPart) -> None:
        """Take one part."""
        match part:
            case Delta(number, PieceKind.CALL, text):
                self._pieces[number].arguments += text
            case Delta(number, kind, text):
                known, before = self._pieces.get(number, (kind, ""))
                assert known is kind
                self._pieces[number] = (kind, before + text)
            case CallStarted():
                self._pieces[part.part] = _Call(part)
            case PartEnded():
                self._end(part)
            case ProviderResult() | WholePart():
                self._pieces[part.part] = part
            case Restarted():
                self._reset()
            case Finished():
                self.answer = self._folded(part)
            case UsageSeen():
                pass

    def _end(self, part: PartEnded) -> None:
        piece = self._pieces.get(part.part)
        self._native[part.part] = part.native
        if isinstance(piece, _Call):
            piece.ended = True
            piece.native = part.native
            if part.arguments is not None:
                piece.arguments = part.arguments

    def _folded(self, finished: Finished) -> Answer:
        answer = Answer(stop=finished.reason, usage=_counts(finished.usage))
        for number in sorted(self._pieces):
            self._add_piece(answer, number, self._pieces[number])
        return answer

    def _add_piece(self, answer: Answer, number: int, piece: Any) -> None:
        native = self._native.get(number)
        match piece:
            case (PieceKind.TEXT, str(text)):
                answer.text += text
                answer.blocks.append("text")
                answer.citations += len(_block(native).get("citations") or ())
            case (PieceKind.REASONING, str(text)):
                answer.reasoning += text
                answer.blocks.append("thinking")
            case _Call():
                self._add_call(answer, piece)
            case ProviderResult():
                answer.blocks.append(_block(piece.native)["type"])
            case WholePart(_, Reasoning(_, whole)):
                answer.blocks.append(_block(whole)["type"])
            case WholePart(_, ProviderNote(_, block_type)):
                answer.blocks.append(block_type)
            case WholePart(_, Source()) | (_, _):
                assert isinstance(piece, WholePart) or piece[0] is PieceKind.REFUSAL
            case _:
                raise AssertionError(piece)

    @staticmethod
    def _add_call(answer: Answer, call: _Call) -> None:
        row = {
            "id": call.started.vendor_id,
            "name": call.started.name,
            "arguments": _arguments(call.arguments) if call.ended else call.arguments,
        }
        if not call.started.by_provider:
            answer.tool_calls.append(row)
            answer.blocks.append("tool_use")
        else:
            answer.server_tools.append(row)
            answer.blocks.append(_block(call.native).get("type", "server_tool_use"))


def folded(parts: Iterable[AnswerPart]) -> Answer | None:
    """Return the answer of a whole stream of parts; None without Finished."""
    fold = Fold()
    for part in parts:
        fold.add(part)
    return fold.answer


_STOPS = {
    "end_turn": FinishReason.END_TURN,
    "stop_sequence": FinishReason.END_TURN,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.MAX_TOKENS,
    "pause_turn": FinishReason.PAUSED,
    "refusal": FinishReason.REFUSAL,
    "model_context_window_exceeded": FinishReason.CONTEXT_EXCEEDED,
}


def expected_anthropic(entry: dict[str, Any]) -> Answer:
    """Return an entry of expected.json as an answer."""
    known = {name: entry[name] for name in Answer.__struct_fields__ if name in entry}
    stop = _STOPS[entry["stop"]]
    usage = {name: value for name, value in entry["usage"].items() if value is not None}
    return msgspec.structs.replace(Answer(**{**known, "stop": stop}), usage=usage)


def plain_anthropic(body: str) -> Answer:
    """Decode a whole body, streamed or not, as simply as possible."""
    if body.lstrip().startswith("{"):
        message = json.loads(body)
        blocks = message["content"]
        for block in blocks:
            block["_done"] = True
    else:
        message, blocks = _plain_stream(body)
    answer = Answer(stop=_STOPS.get(message["stop_reason"], FinishReason.OTHER))
    names = (
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    )
    answer.usage = {
        name: message["usage"][name] for name in names if message["usage"].get(name) is not None
    }
    for block in blocks:
        answer.blocks.append(block["type"])
        answer.text += block.get("text", "") if block["type"] == "text" else ""
        answer.reasoning += block.get("thinking", "")
        answer.citations += len(block.get("citations") or ())
        if block["type"].endswith("tool_use"):
            done = block.pop("_done", False)
            row = {
                "id": block["id"],
                "name": block["name"],
                "arguments": block["input"] if done or "_json" not in block else block["_json"],
            }
            (answer.tool_calls if block["type"] == "tool_use" else answer.server_tools).append(row)
    return answer


def _plain_stream(body: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    message: dict[str, Any] = {}
    by_index: dict[int, dict[str, Any]] = {}
    for line in body.replace("\r\n", "\n").split("\n"):
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                message, by_index = event["message"], {}
            case "content_block_start":
                by_index[event["index"]] = event["content_block"]
            case "content_block_delta":
                _plain_delta(by_index[event["index"]], event["delta"])
            case "content_block_stop":
                block = by_index[event["index"]]
                block["_done"] = True
                if "_json" in block:
                    block["input"] = json.loads(block.pop("_json") or "{}")
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message, [by_index[index] for index in sorted(by_index)]


def _plain_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "input_json_delta" if delta["partial_json"]:
            block["_json"] = block.get("_json", "") + delta["partial_json"]
        case "citations_delta":
            block.setdefault("citations", [])
            block["citations"] = [*(block["citations"] or []), delta["citation"]]


def _arguments(text: str) -> Any:
    return json.loads(text or "{}")


def _block(native: Native | None) -> dict[str, Any]:
    return json.loads(native.json) if native is not None else {}


def _counts(usage: Usage) -> dict[str, int]:
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
    }
    return {name: value for name, value in counts.items() if value is not None}


__all__ = ["Answer", "Fold", "expected_anthropic", "folded", "plain_anthropic"]
