"""Our history in Anthropic's format: the vendor's own data is sent back unchanged, and no other."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd_server.agent.model.attempt import fold
from chatd_server.agent.model.draft import StepDraft
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.domain.chat import Effort
from chatd_server.domain.ids import AttemptId, MessageId, ToolCallId, TurnId
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Message,
    Native,
    Part,
    Reasoning,
    ResultFile,
    Role,
    Text,
    ToolCall,
    ToolErrorKind,
    ToolResult,
)
from chatd_server.ports.models import ModelRequest, ToolChoice, ToolChoiceMode
from chatd_server.ports.tools import ToolSpec, VendorTool, VendorToolKind
from chatd_server.providers.anthropic.decode import AnswerDecoder
from chatd_server.providers.anthropic.encode import MessageEncoder
from chatd_server.providers.anthropic.model import AnthropicConversation, AnthropicModel
from chatd_server.providers.http.sse import EventSplitter
from chatd_server.providers.http.transport import Transport
from tests.kit.clock import ManualClock
from tests.providers.test_recordings import FILES

MODEL = "claude-sonnet-4-5"


def message(
    role: Role, *parts: Part, finish: FinishReason | None = None, position: int = 1
) -> Message:
    """Return a message of these parts."""
    return Message(
        id=MessageId(f"m{position}"),
        position=position,
        role=role,
        parts=parts,
        turn_id=TurnId("t"),
        created_at=0,
        sequence=position,
        finish_reason=finish,
    )


def call(name: str, arguments: str = "{}", vendor_id: str = "toolu_1") -> ToolCall:
    """Return a tool call."""
    return ToolCall(
        id=ToolCallId(f"call_{name}"),
        name=name,
        arguments=arguments,
        executor=Executor.SERVER,
        created_at=0,
        vendor_id=vendor_id,
    )


def result(name: str, output: str, error: ToolErrorKind | None = None) -> ToolResult:
    """Return the result of the call of this name."""
    return ToolResult(
        call_id=ToolCallId(f"call_{name}"),
        name=name,
        output=output,
        executor=Executor.SERVER,
        created_at=0,
        error=error,
    )


def encoded(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages of a request."""
    found: list[dict[str, Any]] = json.loads(b"[%b]" % MessageEncoder(MODEL).encoded(messages))
    return found


def conversation() -> AnthropicConversation:
    """Return a conversation that is never sent."""
    model = AnthropicModel(
        MODEL, api_key="k", base_url="http://x", transport=Transport(ManualClock())
    )
    made = model.conversation()
    assert isinstance(made, AnthropicConversation)
    return made


def body(request: ModelRequest) -> dict[str, Any]:
    """Return the body of one request."""
    found: dict[str, Any] = json.loads(conversation().encode(request))
    return found


class _NullWriter:
    """Ignores every write."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def answer(recorded: str) -> Message:
    """Return the message for a recorded stream."""
    draft = StepDraft(ManualClock())
    draft.begin(AttemptId("a"), _NullWriter())
    toolbox = Toolbox((), ())
    decoder = AnswerDecoder(MODEL)
    splitter = EventSplitter()
    for data in splitter.feed(recorded.encode()):
        for part in decoder.feed(data):
            fold(part, draft, toolbox)
    sealed = draft.seal()
    return message(Role.ASSISTANT, *sealed.parts, finish=sealed.finish_reason, position=2)


def _accepted(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return a recorded answer and its form in the next request, which the vendor accepted."""
    first = json.loads(path.read_text())
    second = json.loads(path.with_name(path.name.replace(".1.json", ".2.json")).read_text())
    index = len(first["request"]["body"]["messages"])
    messages = second["request"]["body"]["messages"][index:]
    if not messages or messages[0]["role"] != "assistant":
        return "", []
    return first["response"]["body"], _blocks(messages[0]["content"])


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


LOOPS = [
    path for path in FILES if re.search(r"-stream--.*\.1\.json$", path.name) and _accepted(path)[1]
]


@pytest.mark.skipif(not LOOPS, reason="no recordings: see CHATD_RECORDINGS")
@pytest.mark.parametrize("path", LOOPS, ids=[path.name for path in LOOPS])
def test_an_answer_goes_back_block_by_block_as_it_came(path: Path) -> None:
    """We would send the request that the vendor accepted in the next step of a recorded loop."""
    recorded, accepted = _accepted(path)
    ours = encoded([message(Role.USER, Text("hello")), answer(recorded)])
    assert [_plain(block) for block in ours[1]["content"]] == [_plain(block) for block in accepted]


def _plain(value: Any) -> Any:
    """Drop what clients may add or omit: cache marks, nulls, and the caller."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        # One recorder rewrote dashes and quotes of page titles.
        return re.sub(r"[^\x00-\x7f]|[-'\"]", "", value)
    if not isinstance(value, dict):
        return value
    dropped = {"cache_control", "caller"}
    kept = {k: _plain(v) for k, v in value.items() if k not in dropped}
    return {k: v for k, v in kept.items() if v not in (None, [])}


def test_results_of_one_step_stand_in_one_user_message_before_any_text() -> None:
    """Anthropic requires every result in the next user message, and text after them."""
    messages = encoded(
        [
            message(Role.USER, Text("go")),
            message(Role.ASSISTANT, call("a", vendor_id="toolu_a"), call("b", vendor_id="toolu_b")),
            message(Role.TOOL, result("a", "1"), result("b", "", ToolErrorKind.FAILED)),
            message(Role.USER, Text("and now?")),
        ]
    )
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    one, two, text = messages[2]["content"]
    assert one == {"type": "tool_result", "tool_use_id": "toolu_a", "content": "1"}
    assert two == {"type": "tool_result", "tool_use_id": "toolu_b", "is_error": True}
    assert text["text"] == "and now?"


def test_files_of_a_result_are_named_to_the_model() -> None:
    """Their bytes are not sent yet; it knows that they exist."""
    image = ResultFile("f1", "image/png", "shot.png")
    seen = msgspec.structs.replace(result("a", "done"), files=(image,))
    messages = encoded(
        [
            message(Role.USER, Text("go")),
            message(Role.ASSISTANT, call("a")),
            message(Role.TOOL, seen),
        ]
    )
    assert messages[2]["content"][0]["content"] == "done\n[file shot.png (image/png)]"


def test_an_id_that_the_vendor_repeats_is_replaced_by_ours() -> None:
    """Two calls with one id would be refused; our ids are unique in the chat."""
    messages = encoded(
        [
            message(Role.USER, Text("go")),
            message(Role.ASSISTANT, call("a"), call("b")),
            message(Role.TOOL, result("a", "1"), result("b", "2")),
        ]
    )
    assert [block["id"] for block in messages[1]["content"]] == ["toolu_1", "call_b"]
    assert [block["tool_use_id"] for block in messages[2]["content"]] == ["toolu_1", "call_b"]


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", ""])
def test_arguments_that_are_no_object_go_back_empty(arguments: str) -> None:
    """A truncated call never ran; the vendor accepts only an object."""
    messages = encoded([message(Role.ASSISTANT, call("a", arguments))])
    assert messages[0]["content"][0]["input"] == {}


@pytest.mark.parametrize(
    "text",
    ['{"z": 9007199254740993, "a":1.0}', f'{{"n": {"9" * 5000}}}', ' {"half": "\\ud800"}'],
    ids=["spelling", "a long number", "half of a pair"],
)
def test_arguments_go_back_as_the_model_wrote_them(text: str) -> None:
    """The vendor's prompt cache depends on spelling and key order."""
    sent = MessageEncoder(MODEL).encoded([message(Role.ASSISTANT, call("a", text))])
    assert text.encode() in sent


@pytest.mark.parametrize(
    "native",
    [
        Native("openai", '{"type":"thinking"}'),
        Native("anthropic", '{"type":"thinking"}', model="claude-opus-4-8"),
    ],
    ids=["another vendor", "another model"],
)
def test_a_block_of_another_vendor_or_model_is_not_sent(native: Native) -> None:
    """The vendor refuses signatures of another model, so that reasoning is not sent."""
    messages = encoded([message(Role.ASSISTANT, Reasoning("so", native), Text("yes"))])
    assert [block["type"] for block in messages[0]["content"]] == ["text"]


def test_marks_stand_on_the_system_text_and_the_last_two_messages() -> None:
    """At most four marks, the newest ones, and never on thinking."""
    thought = Native("anthropic", '{"type":"thinking","thinking":"x","signature":"s"}', MODEL)
    whole = body(
        ModelRequest(
            messages=[
                message(Role.USER, Text("1")),
                message(Role.ASSISTANT, Text("2")),
                message(Role.USER, Text("3")),
                message(Role.ASSISTANT, Text("4"), Reasoning("x", thought)),
            ],
            system="be brief",
        )
    )
    marked = [
        [block["type"] for block in m["content"] if "cache_control" in block]
        for m in whole["messages"]
    ]
    assert marked == [[], [], ["text"], ["text"]]
    assert whole["system"][0]["cache_control"] == {"type": "ephemeral"}


@given(st.lists(st.sampled_from(["user", "call", "text", "empty"]), min_size=1, max_size=12))
def test_incremental_encoding_equals_encoding_at_once(kinds: list[str]) -> None:
    """The incremental encoder and a new one agree, byte for byte, at every step."""
    messages: list[Message] = []
    growing = MessageEncoder(MODEL)
    for number, kind in enumerate(kinds):
        if kind == "user":
            messages.append(message(Role.USER, Text(f"u{number}"), position=number))
        elif kind == "text":
            messages.append(message(Role.ASSISTANT, Text(f"a{number}"), position=number))
        elif kind == "empty":
            messages.append(message(Role.ASSISTANT, Text(" "), position=number))
        else:
            name = f"n{number}"
            vendor_id = f"toolu_{number}"
            messages.append(message(Role.ASSISTANT, call(name, vendor_id=vendor_id)))
            messages.append(message(Role.TOOL, result(name, "r")))
        assert growing.encoded(messages) == MessageEncoder(MODEL).encoded(messages)
    json.loads(b"[%b]" % growing.encoded(messages))


def test_another_history_is_encoded_from_the_start() -> None:
    """An edit makes another history; nothing of the old one may remain."""
    encoder = MessageEncoder(MODEL)
    encoder.encoded([message(Role.USER, Text("old")), message(Role.ASSISTANT, Text("a"))])
    assert b"old" not in encoder.encoded([message(Role.USER, Text("new"))])


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("claude-3-5-haiku", Effort.HIGH, {}),
        (MODEL, Effort.LOW, {"thinking": {"type": "enabled", "budget_tokens": 4000}}),
        (
            "claude-opus-4-8",
            Effort.HIGH,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        ("claude-opus-4-8", Effort.NONE, {}),
    ],
)
def test_effort_is_asked_for_as_the_model_takes_it(
    model: str, effort: Effort, expected: dict[str, Any]
) -> None:
    """Old models do not think, some need a budget, new ones an effort."""
    talk = AnthropicConversation(model, "http://x", {}, Transport(ManualClock()))
    request = ModelRequest(messages=[message(Role.USER, Text("?"))], effort=effort, temperature=0.5)
    whole = json.loads(talk.encode(request))
    assert {k: whole[k] for k in ("thinking", "output_config") if k in whole} == expected
    assert ("temperature" in whole) == (not expected)


def test_a_tool_is_declared_with_its_schema_as_it_is() -> None:
    """Tools are encoded once and keep their order."""
    schema = '{"type": "object", "properties": {"a": {"type": "string"}}}'
    tools = (ToolSpec("b", "does b", schema), ToolSpec("a", "", ""))
    request = ModelRequest(messages=[message(Role.USER, Text("?"))], tools=tools)
    assert body(request)["tools"] == [
        {"name": "b", "description": "does b", "input_schema": msgspec.json.decode(schema)},
        {"name": "a", "description": "", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("choice", "effort", "expected"),
    [
        (ToolChoice(), None, {"type": "auto"}),
        (ToolChoice(ToolChoiceMode.NONE), None, {"type": "none"}),
        (ToolChoice(ToolChoiceMode.REQUIRED), None, {"type": "any"}),
        (ToolChoice(ToolChoiceMode.REQUIRED, "a"), None, {"type": "tool", "name": "a"}),
        (ToolChoice(ToolChoiceMode.REQUIRED, "a"), Effort.LOW, {"type": "auto"}),
    ],
)
def test_a_choice_of_tools_is_written_as_the_vendor_takes_it(
    choice: ToolChoice, effort: Effort | None, expected: dict[str, str]
) -> None:
    """The vendor refuses a forced tool call while the model thinks."""
    request = ModelRequest(
        messages=[message(Role.USER, Text("?"))], tool_choice=choice, effort=effort
    )
    assert body(request)["tool_choice"] == expected


def test_tools_of_the_vendor_stand_after_ours() -> None:
    """The vendor knows their schema by their type."""
    search = VendorTool(VendorToolKind.WEB_SEARCH, uses_max=3)
    request = ModelRequest(
        messages=[message(Role.USER, Text("?"))],
        tools=(ToolSpec("a", "", ""),),
        vendor_tools=(search,),
    )
    typed = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    assert body(request)["tools"][1:] == [typed]


def test_an_answer_can_be_asked_for_as_json_of_a_schema() -> None:
    """Together with the effort, which is in the same object."""
    talk = AnthropicConversation("claude-opus-4-8", "http://x", {}, Transport(ManualClock()))
    request = ModelRequest(
        messages=[message(Role.USER, Text("?"))],
        effort=Effort.LOW,
        response_schema='{"type": "object"}',
    )
    assert json.loads(talk.encode(request))["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {"type": "object"}},
    }


LONG: dict[str, list[Message]] = {
    "a large message": [message(Role.USER, Text("x" * 600_000))],
    "many messages": [message(Role.USER, Text("x"), position=n) for n in range(100)],
    "many parts": [message(Role.USER, *[Text("x")] * 3_000)],
    "large arguments": [message(Role.ASSISTANT, call("a", f'{{"x":"{"y" * 600_000}"}}'))],
}


@pytest.mark.parametrize("messages", LONG.values(), ids=LONG.keys())
def test_a_long_context_is_encoded_outside_the_event_loop(messages: list[Message]) -> None:
    """The first request of a run encodes everything, and other chats need not wait."""
    encoder = MessageEncoder(MODEL)
    assert not encoder.is_quick(messages)
    encoder.pieces(messages)
    assert encoder.is_quick([*messages, message(Role.ASSISTANT, Text("ok"), position=1000)])


def test_bytes_to_copy_count_too() -> None:
    """Ten megabytes of a history are copied into each request."""
    encoder = MessageEncoder(MODEL)
    roles = [Role.USER, Role.ASSISTANT] * 6
    messages = [message(role, Text("x" * 500_000), position=n) for n, role in enumerate(roles)]
    encoder.pieces(messages)
    assert not encoder.is_quick(messages)


def test_another_history_is_all_new() -> None:
    """A shorter one is not a continuation, however little it adds."""
    encoder = MessageEncoder(MODEL)
    encoder.pieces([message(Role.USER, Text("x"), position=n) for n in range(300)])
    assert not encoder.is_quick([message(Role.USER, Text("x"), position=n) for n in range(200)])
