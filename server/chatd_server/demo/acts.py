"""The acts of the conversation. Each returns a line that says what it proved."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from chatd.v1 import chat_service_pb2, message_pb2
from chatd_client import ChatHandle, Client, Reconnect, ToolFailed, tool
from chatd_server.demo.cutter import Cutter
from chatd_server.demo.server import ServerProcess

Show = Callable[[chat_service_pb2.SubscribeResponse], None]


class ActFailed(Exception):
    """A promise was not kept."""


@tool
async def get_weather(city: str) -> dict[str, str]:
    """Say what the weather is in a city."""
    if not city:
        raise ToolFailed("name a city")
    return {"city": city, "weather": "light rain, 7 degrees"}


@dataclass
class Stage:
    server: ServerProcess
    cutter: Cutter
    client: Client
    chat: ChatHandle
    show: Show
    reconnects: list[Reconnect] = field(default_factory=list)


@dataclass
class Seen:
    """What the stream showed of one turn."""

    #: Live text by attempt.
    text: dict[str, str] = field(default_factory=dict)
    reasoning: dict[str, str] = field(default_factory=dict)
    pieces: int = 0
    #: Kinds of the events of our tools, in order.
    tool_events: list[str] = field(default_factory=list)
    committed: list[message_pb2.Message] = field(default_factory=list)

    def take(self, response: chat_service_pb2.SubscribeResponse) -> None:
        event = response.event
        kind = event.WhichOneof("event")
        if kind == "message_part":
            part = event.message_part
            self.pieces += 1
            self.text[part.attempt_id] = self.text.get(part.attempt_id, "") + part.text
            reasoning = self.reasoning.get(part.attempt_id, "")
            self.reasoning[part.attempt_id] = reasoning + part.reasoning
        elif kind in ("tool_call_started", "tool_call_finished"):
            self.tool_events.append(kind)
        elif kind == "message_committed":
            self.committed.append(event.message_committed.message)

    def answers(self) -> list[message_pb2.Message]:
        return [m for m in self.committed if m.role == message_pb2.ROLE_ASSISTANT]

    def results(self) -> list[message_pb2.ToolResultPart]:
        return [
            part.tool_result
            for message in self.committed
            if message.role == message_pb2.ROLE_TOOL
            for part in message.parts
        ]


Act: TypeAlias = Callable[[Stage], Awaitable[str]]


async def streamed(stage: Stage) -> str:
    """Text comes in pieces; together they are the committed text."""
    seen = await _turn(stage, "!text 40 60/s")
    (answer,) = seen.answers()
    text = _text(answer)
    _must(seen.pieces > 1, f"the text came in {seen.pieces} piece")
    _must(seen.text[answer.attempt_id] == text, "the pieces are not the committed text")
    return f"{seen.pieces} pieces, {len(text.encode())} bytes"


async def thinking(stage: Stage) -> str:
    """Reasoning is separate from text."""
    seen = await _turn(stage, "!think 25 60/s\n!say That is what I think.")
    (answer,) = seen.answers()
    thoughts = "".join(part.reasoning.text for part in answer.parts)
    _must(bool(thoughts), "no reasoning was committed")
    _must(seen.reasoning[answer.attempt_id] == thoughts, "the pieces are not the reasoning")
    return f"{len(thoughts.split())} words before the answer"


async def two_tools(stage: Stage) -> str:
    """Two tools of one answer run side by side."""
    seen = await _turn(
        stage,
        '!call sandbox_lookup {"key": "left", "seconds": 0.6}\n'
        '!call sandbox_lookup {"key": "right", "seconds": 0.6}\n'
        "!step\n!say Both are here.",
    )
    results = seen.results()
    calls = [part.tool_call for part in seen.answers()[0].parts if part.HasField("tool_call")]
    _must([r.tool_call_id for r in results] == [c.tool_call_id for c in calls], "not in call order")
    _must(not any(r.is_error for r in results), "a tool failed")
    began = min(call.create_time.ToMicroseconds() for call in calls)
    ended = max(result.create_time.ToMicroseconds() for result in results)
    # The proof is the order and not the time: a busy machine may be slow.
    _must(seen.tool_events[:2] == ["tool_call_started"] * 2, "the second tool waited for the first")
    return f"0.6 s each, {(ended - began) / 1e6:.2f} s together"


async def client_tool(stage: Stage) -> str:
    """The chat pauses until this process has run the tool."""
    seen = await _turn(stage, '!call get_weather {"city": "Oslo"}\n!step\n!say Take an umbrella.')
    (result,) = seen.results()
    _must(result.executor == message_pb2.TOOL_EXECUTOR_CLIENT, "the tool did not run at the client")
    _must("light rain" in result.output_json, "the result is not what the client gave")
    return "asked, answered by this process, and went on"


async def cut_and_resumed(stage: Stage) -> str:
    """The connection breaks in the middle of the text: nothing is missing or repeated."""
    cuts = 0
    before = len(stage.reconnects)

    async def cut_once(seen: Seen) -> None:
        nonlocal cuts
        if seen.pieces >= 10 and not cuts:  # noqa: PLR2004  anywhere in the middle
            cuts += 1
            await stage.cutter.cut()

    seen = await _turn(stage, "!text 60 40/s", cut_once)
    (answer,) = seen.answers()
    text = _text(answer)
    shown = seen.text[answer.attempt_id]
    _must(cuts == 1 and len(stage.reconnects) > before, "the stream was not cut")
    missing = sum(1 for word in text.split() if word not in shown.split())
    twice = max(0, len(shown.encode()) - len(text.encode()))
    _must(shown == text, f"{missing} words missing, {twice} bytes twice")
    return f"{missing} missing {twice} twice"


async def killed_and_finished(stage: Stage) -> str:
    """SIGKILL while a tool runs: another process finishes the turn and reports what is unknown."""
    killed = False

    async def kill_once(seen: Seen) -> None:
        nonlocal killed
        if seen.answers() and not killed:
            killed = True
            await _tool_started(stage)
            await stage.server.kill()
            await stage.server.start()

    seen = await _turn(
        stage, '!call sandbox_wait {"seconds": 30}\n!step\n!say I do not know how it ended.',
        kill_once,
    )  # fmt: skip
    (result,) = seen.results()
    _must(killed, "the server was not killed")
    unknown = message_pb2.TOOL_ERROR_KIND_OUTCOME_UNKNOWN
    _must(result.error_kind == unknown, f"the result is {result.output_text!r}")
    _must(_text(seen.answers()[-1]) == "I do not know how it ended.", "the turn did not finish")
    return "outcome unknown, and the turn finished"


ACTS: tuple[tuple[str, Act], ...] = (
    ("streamed", streamed),
    ("thinking", thinking),
    ("2 tools", two_tools),
    ("client tool", client_tool),
    ("cut and resumed", cut_and_resumed),
    ("killed and finished", killed_and_finished),
)


async def _turn(
    stage: Stage, words: str, meddle: Callable[[Seen], Awaitable[None]] | None = None
) -> Seen:
    """Send, follow to the end of the turn, and compare the stream with ListMessages."""
    seen = Seen()
    async for response in stage.chat.run(words):
        stage.show(response)
        seen.take(response)
        if meddle is not None:
            await meddle(seen)
    listed = {message.message_id: message for message in await stage.chat.messages()}
    for message in seen.committed:
        _must(
            listed.get(message.message_id) == message,
            "ListMessages and the stream have different messages",
        )
    turn = {message.turn_id for message in seen.committed}
    of_turn = [message for message in listed.values() if message.turn_id in turn]
    _must(
        len(of_turn) == len(seen.committed),
        "ListMessages and the stream have different numbers of messages",
    )
    return seen


async def _tool_started(stage: Stage) -> None:
    """Wait until another stream shows the running tool."""
    async for response in stage.chat.follow():
        if response.event.WhichOneof("event") == "tool_call_started":
            return


def _text(message: message_pb2.Message) -> str:
    return "".join(part.text.text for part in message.parts)


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ActFailed(otherwise)


__all__ = ["ACTS", "Act", "ActFailed", "Stage", "get_weather"]
