"""The cases of `loop_longest`: the largest input of every kind that is accepted."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from bench.directive import Directive
from bench.lab import TEXT_BYTES_MAX, Lab, filled, message
from bench.servers import MODEL as VENDOR
from chatd.v1 import chat_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import ANSWER_PARTS_MAX, PARTS_MAX
from chatd_server.domain.message import Part, Text

Case: TypeAlias = Callable[[Lab, Mapping[str, str]], Awaitable[object]]
"""Runs what is measured. Gets the ids of the seeded chats."""

_WORDS = filled("lorem ipsum ")


# --- what a user may send --------------------------------------------------------------------


def says(*texts: str) -> Case:
    """Let the sandbox answer a message."""

    async def case(lab: Lab, _: Mapping[str, str]) -> None:
        await lab.turn(await lab.chat(), *texts)

    return case


def vendor_says(text: str) -> Case:
    """Let the vendor answer a message."""

    async def case(lab: Lab, _: Mapping[str, str]) -> None:
        await lab.turn(await lab.chat(VENDOR), text)

    return case


def refused(method: str, request: Callable[[], Any]) -> Case:
    """Send a request that must be refused."""

    async def case(lab: Lab, _: Mapping[str, str]) -> None:
        await lab.refused(method, request())

    return case


def seeded(name: str, do: Callable[[Lab, str], Awaitable[object]]) -> Case:
    """Use a seeded chat."""

    async def case(lab: Lab, ids: Mapping[str, str]) -> None:
        await do(lab, ids[name])

    return case


def _tools(count: int, schema: str) -> list[tool_pb2.ToolDefinition]:
    return [
        tool_pb2.ToolDefinition(name=f"tool_{number}", input_schema_json=schema)
        for number in range(count)
    ]


def _schema(size: int, salt: str = "") -> str:
    field = '"%s%d":{"type":"string","pattern":"^(a+)+$"},'
    head, tail = '{"type":"object","properties":{', f'"z{salt}":{{}}}}}}'
    fields = ""
    number = 0
    while len(head) + len(fields) + len(tail) + 64 < size:
        fields += field % ("f", number)
        number += 1
    return head + fields + tail


async def _largest_tools(lab: Lab, _: Mapping[str, str]) -> None:
    chat = await lab.chat(tools=_tools(128, _schema(4070)))
    await lab.turn(chat, "hello")


async def _many_schemas(lab: Lab, _: Mapping[str, str]) -> None:
    tools = [
        tool_pb2.ToolDefinition(name=f"tool_{number}", input_schema_json=_schema(4060, str(number)))
        for number in range(128)
    ]
    await lab.chat(tools=tools)


async def _small_schema(lab: Lab, _: Mapping[str, str]) -> None:
    await lab.chat(tools=_tools(1, _schema(2040)))


async def _small_schema_worst(lab: Lab, _: Mapping[str, str]) -> None:
    schema = '{"type":"object","allOf":[' + ",".join(["{}"] * 660) + "]}"
    await lab.chat(tools=_tools(1, schema))


async def _unique(lab: Lab, _: Mapping[str, str]) -> None:
    enum = ",".join(f'{{"a":{number}}}' for number in range(6000))
    schema = f'{{"type":"object","required":[{enum}]}}'
    await lab.refused("CreateChat", pb.CreateChatRequest(tools=_tools(1, schema[:65536])))


def _nested_schema() -> pb.CreateChatRequest:
    deep = '{"type":"object","not":' + '{"not":' * 400 + "{}" + "}" * 401
    return pb.CreateChatRequest(tools=_tools(1, deep))


async def _labels_and_prompt(lab: Lab, _: Mapping[str, str]) -> None:
    labels = {f"{number:063d}": "v" * 256 for number in range(64)}
    chat = await lab.chat(labels=labels, system_prompt=filled("be kind "))
    await lab.turn(chat, "hello")


# --- client tools ----------------------------------------------------------------------------


async def _pending(lab: Lab, count: int, arguments: str = "{}") -> tuple[str, list[str]]:
    chat = await lab.chat(tools=_tools(1, ""))
    await lab.turn(chat, f"!call tool_0 {arguments}\n" * count)
    listed = await lab.call("ListPendingActions", pb.ListPendingActionsRequest(chat_id=chat))
    return chat, [call.tool_call_id for call in listed.actions[0].tool_calls]


def submits(count: int, output: str, *, is_json: bool = True) -> Case:
    """Submit this many results."""

    async def case(lab: Lab, _: Mapping[str, str]) -> None:
        chat, calls = await _pending(lab, count)
        await lab.longest()
        field = "output_json" if is_json else "output_text"
        results = [
            tool_pb2.ToolResultInput(tool_call_id=call, **{field: output})  # type: ignore[arg-type]
            for call in calls
        ]
        request = pb.SubmitToolResultsRequest(chat_id=chat, results=results)
        await lab.call("SubmitToolResults", request)
        await lab.follow(chat)

    return case


def keeps(output: str) -> Case:
    """Submit 32 results in parts, and check what was kept."""

    async def case(lab: Lab, _: Mapping[str, str]) -> None:
        chat, calls = await _pending(lab, 32)
        await lab.longest()
        for begin in range(0, len(calls), 5):
            results = [
                tool_pb2.ToolResultInput(tool_call_id=call, output_text=output)
                for call in calls[begin : begin + 5]
            ]
            request = pb.SubmitToolResultsRequest(chat_id=chat, results=results, allow_partial=True)
            await lab.call("SubmitToolResults", request)
            await lab.call("GetChat", pb.GetChatRequest(chat_id=chat))
            await lab.call("ListPendingActions", pb.ListPendingActionsRequest(chat_id=chat))
        await lab.follow(chat)

    return case


async def _large_arguments(lab: Lab, _: Mapping[str, str]) -> None:
    chat = await lab.chat(tools=_tools(1, ""))
    call = "!call tool_0 " + json.dumps({"x": "y" * 250_000})
    await lab.turn(chat, call, call)
    await lab.follow(chat)
    await lab.call("ListPendingActions", pb.ListPendingActionsRequest(chat_id=chat))


async def _many_actions(lab: Lab, _: Mapping[str, str]) -> None:
    for _number in range(20):
        await _pending(lab, 256)
    await lab.longest()
    await lab.call("ListPendingActions", pb.ListPendingActionsRequest(page_size=200))


async def _vendor_with_tools(lab: Lab, _: Mapping[str, str]) -> None:
    prompt = filled("be kind ")
    chat = await lab.chat(VENDOR, tools=_tools(128, _schema(4070)), system_prompt=prompt)
    await lab.turn(chat, str(Directive(tokens=1)))


# --- reading ---------------------------------------------------------------------------------


async def _messages(lab: Lab, chat: str) -> None:
    await lab.call("ListMessages", pb.ListMessagesRequest(chat_id=chat, page_size=200))


async def _events(lab: Lab, chat: str) -> None:
    await lab.call("ListEvents", pb.ListEventsRequest(chat_id=chat, page_size=200))


async def _from_zero(lab: Lab, chat: str) -> None:
    await lab.follow(chat, after=0)


async def _snapshot(lab: Lab, chat: str) -> None:
    await lab.follow(chat)


async def _goes_on(lab: Lab, chat: str) -> None:
    await lab.turn(chat, "!say one more")


async def _goes_on_vendor(lab: Lab, chat: str) -> None:
    await lab.turn(chat, str(Directive(tokens=1)))


async def _wide_chats(lab: Lab, _: Mapping[str, str]) -> None:
    labels = {f"{number:02d}": "" for number in range(64)}
    tools = [
        tool_pb2.ToolDefinition(name=f"t{number}", input_schema_json='{"type":"object"}')
        for number in range(128)
    ]
    for _number in range(200):
        await lab.chat(tools=tools, labels=labels)
    await lab.longest()
    await lab.call("ListChats", pb.ListChatsRequest(page_size=200))


async def _long_chats(lab: Lab, _: Mapping[str, str]) -> None:
    prompt = filled("be kind ")
    for _number in range(200):
        await lab.chat(system_prompt=prompt)
    await lab.longest()
    await lab.call("ListChats", pb.ListChatsRequest(page_size=200))


def queue(*texts: str) -> Case:
    """Fill a queue, list it, and let its turns run."""

    async def case(lab: Lab, _: Mapping[str, str]) -> None:
        chat = await lab.chat()
        await lab.send(chat, "!stall 600")
        for _number in range(50):
            await lab.send(chat, *texts)
        await lab.longest()
        await lab.refused("SendMessage", pb.SendMessageRequest(chat_id=chat, message=message("x")))
        await lab.call("GetChat", pb.GetChatRequest(chat_id=chat))
        await lab.call("InterruptChat", pb.InterruptChatRequest(chat_id=chat))
        await lab.follow(chat, until=pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED)

    return case


_HALF = filled("x")
_PARTS = ("x" * 2000,) * 256
_SOURCES = filled("!source u\n")
_CALLS = filled("!call a\n")

_MESSAGE = (Text(_WORDS), Text(_WORDS))
_WIDE = (Text("x"),) * PARTS_MAX


def histories(messages: int) -> Mapping[str, Sequence[tuple[Part, ...]]]:
    """Return the user messages of the seeded chats; one has this many, the others fewer."""
    return {
        "many": [(Text("hello"),)] * messages,
        "large": [_MESSAGE] * (messages // 200),
        "parts": [_WIDE] * (messages // 25),
        VENDOR: [_MESSAGE] * (messages // 500),
    }


FIRST = vendor_says(str(Directive(tokens=1)))
"""A turn that is not measured."""
QUICK = ("nothing large", "sandbox: unreadable lines", "read: messages of 256 parts")
"""Cases that show that everything works."""

CASES: Mapping[str, Case] = {
    "nothing large": says("hello"),
    # user messages
    "user: 2 texts of 256 KiB": says(_WORDS, _WORDS),
    "user: one word of 512 KiB": says(_HALF, _HALF),
    "user: 256 parts": says(*_PARTS),
    "user: white space": refused(
        "SendMessage",
        lambda: pb.SendMessageRequest(chat_id="x", message=message(" " * TEXT_BYTES_MAX)),
    ),
    "user: 512 KiB of other words": says(filled("Ωμέγα 🙂 "), filled("Ωμέγα 🙂 ")),
    "user: 512 KiB of NUL": says(filled("\0"), filled("\0")),
    # the sandbox's scripts
    "sandbox: unreadable lines": says(filled("!x\n"), filled("!x\n")),
    "sandbox: long unreadable lines": says("!" + "x" * 262_000, "!" + "x" * 262_000),
    "sandbox: calls": says(_CALLS, _CALLS),
    "sandbox: steps": says(filled("!call a\n!step\n"), filled("!call a\n!step\n")),
    "sandbox: sources": says(_SOURCES, _SOURCES),
    "sandbox: usage": says(filled("!usage none\n"), filled("!usage none\n")),
    "sandbox: searches": says(filled("!search a\n"), filled("!search a\n")),
    "sandbox: empty thoughts": says(filled("!think 0\n!say a\n"), filled("!think 0\n!say a\n")),
    "sandbox: blank lines": says(filled("\n"), "!say a"),
    "sandbox: restarts": says(filled("!restart\n")),
    "sandbox: finishes": says(filled("!finish other\n")),
    "sandbox: 4,000 directives": says("!usage none\n" * 3_998 + "!call a\n!step\n"),
    # answers
    "answer: 2,000 parts": says("!source u\n" * ANSWER_PARTS_MAX),
    "answer: 110,000 deltas": says("!text 110000"),
    "answer: 768 KiB of text": says("!say " + _HALF[:-10], "!say " + _HALF[:-10]),
    "answer: too long": says("!text 1000000"),
    "answer: arguments of 512 KiB": says('!call a {"x":"' + _HALF[:-30] + '"}'),
    "answer: tool outputs of 16 MiB": says('!call sandbox_fail {"kind":"too_long"}\n' * 30),
    "answer: 200 calls": says('!call sandbox_lookup {"key":"a"}\n' * 200),
    "answer: vendor, 5,000 deltas": vendor_says(str(Directive(tokens=5000))),
    "answer: vendor, 300 steps": vendor_says(str(Directive(steps=300))),
    "answer: vendor, 768 KiB in steps": vendor_says(str(Directive(steps=3, bytes=250_000))),
    # fields of a chat
    "chat: prompt and 64 labels": _labels_and_prompt,
    "chat: 128 tools of 4 KiB": _largest_tools,
    "chat: vendor, 128 tools of 4 KiB": _vendor_with_tools,
    "chat: 128 schemas of 4 KiB": _many_schemas,
    "chat: one schema of 2 KiB": _small_schema,
    "chat: one odd schema of 2 KiB": _small_schema_worst,
    "chat: a schema that is not unique": _unique,
    "chat: a deep schema": refused("CreateChat", _nested_schema),
    # client tools
    "submit: 256 results of 10 KiB": submits(256, json.dumps(["x" * 10_000])),
    "submit: 5 results of 512 KiB": submits(5, "[" + "1," * 262_000 + "1]"),
    "submit: deep JSON": submits(5, "[" * 262_000 + "]" * 262_000, is_json=False),
    "submit: long integers": submits(100, "[" + "1" * 4300 + "]"),
    "submit: text": submits(5, filled("word ", 524_000), is_json=False),
    "submit: 16 MiB by parts": keeps(filled("word ", 524_288)),
    "submit: 16 MiB of other words by parts": keeps(filled("Ωμέγα 🙂 ", 524_288)),
    "submit: 16 MiB of NUL by parts": keeps("\0" * 524_288),
    "submit: large arguments": _large_arguments,
    "list: 20 chats of 256 open calls": _many_actions,
    # histories and lists
    "read: messages, 2 MiB of many": seeded("many", _messages),
    "read: messages, large": seeded("large", _messages),
    "read: messages of 256 parts": seeded("parts", _messages),
    "read: events": seeded("many", _events),
    "read: events of 256 parts": seeded("parts", _events),
    "follow: 10,000 events": seeded("many", _from_zero),
    "follow: 10,000 messages": seeded("many", _snapshot),
    "follow: 256 parts": seeded("parts", _snapshot),
    "follow: large messages": seeded("large", _snapshot),
    "turn: after 10,000 messages": seeded("many", _goes_on),
    "turn: after 25 MiB": seeded("large", _goes_on),
    "turn: after 256 parts": seeded("parts", _goes_on),
    "turn: vendor, after 10 MiB": seeded(VENDOR, _goes_on_vendor),
    "list: 200 chats of 128 tools": _wide_chats,
    "list: 200 chats of 256 KiB": _long_chats,
    "queue: 50 of 512 KiB": queue("!finish end_turn\n" + _WORDS[:-100], _WORDS),
    "queue: 50 of 512 KiB of NUL": queue("!finish end_turn\n" + "\0" * 262_000, "\0" * 262_144),
    "queue: 50 of 256 parts": queue("!finish end_turn", *("x",) * 255),
    # requests
    "request: statuses": refused(
        "ListChats",
        lambda: pb.ListChatsRequest(statuses=[chat_pb2.CHAT_STATUS_WAITING] * 3_000_000),
    ),
    "request: tool names": refused(
        "ListPendingActions", lambda: pb.ListPendingActionsRequest(tool_names=["a"] * 1_000_000)
    ),
    "request: parts": refused(
        "SendMessage",
        lambda: pb.SendMessageRequest(chat_id="x", message=message(*[""] * 500_000)),
    ),
    "request: labels": refused(
        "CreateChat",
        lambda: pb.CreateChatRequest(labels={str(number): "" for number in range(200_000)}),
    ),
    "request: tools": refused(
        "CreateChat", lambda: pb.CreateChatRequest(tools=[tool_pb2.ToolDefinition()] * 1_000_000)
    ),
    "request: page token": refused(
        "ListMessages", lambda: pb.ListMessagesRequest(chat_id="x", page_token="A" * 1024)
    ),
}
