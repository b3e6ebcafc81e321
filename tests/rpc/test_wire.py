"""Values of a request are counted before it is decoded."""

import pytest
from google.protobuf.message import Message

from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import (
    CALLS_PER_ANSWER_MAX,
    CLIENT_TOOLS_MAX,
    PARTS_MAX,
    REQUEST_VALUES_MAX,
)
from chatd_server.rpc.edge.wire import has_more_values


def holds(request: Message, values: int) -> bool:
    """Say whether a request has exactly `values` values."""
    raw, kind = request.SerializeToString(), type(request)
    return not has_more_values(raw, kind, values) and has_more_values(raw, kind, values - 1)


def text(words: str) -> message_pb2.UserPart:
    """Return a part of text."""
    return message_pb2.UserPart(text=message_pb2.UserText(text=words))


COUNTED: dict[str, tuple[Message, int]] = {
    "a field": (pb.GetChatRequest(chat_id="x"), 1),
    "fields of a message": (
        pb.SendMessageRequest(chat_id="x", message=message_pb2.UserMessage(parts=[text("a")])),
        5,
    ),
    "a list of messages": (
        pb.SendMessageRequest(message=message_pb2.UserMessage(parts=[text("a"), text("b" * 300)])),
        7,
    ),
    "a message behind another": (
        pb.CreateChatRequest(
            message=message_pb2.UserMessage(parts=[text("a")]), model="m", labels={"a": "b"}
        ),
        4 + 1 + 3,
    ),
    "packed numbers": (
        pb.ListChatsRequest(statuses=[chat_pb2.CHAT_STATUS_WAITING] * 10, page_size=7),
        1 + 10 + 1,
    ),
    "names": (pb.ListPendingActionsRequest(tool_names=["a"] * 10), 10),
    "an empty message": (
        pb.SendMessageRequest(message=message_pb2.UserMessage(parts=[message_pb2.UserPart()])),
        2,
    ),
}


@pytest.mark.parametrize(("request_", "values"), COUNTED.values(), ids=COUNTED.keys())
def test_every_value_counts_once(request_: Message, values: int) -> None:
    """A message is one value in addition to its fields, and packed numbers count their bytes."""
    assert holds(request_, values)


def test_nothing_is_no_value() -> None:
    """An empty request can be answered."""
    assert not has_more_values(b"", pb.ListChatsRequest, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff" * 100,
        b"\x0a\xff\xff\xff\xff\x0f",  # a text that is longer than the request
        b"\x1a\x05\x0a\xff\xff\xff\xff",  # a message whose first field is longer than it is
        b"\x0b" * 50,  # groups that never end
        b"\x0f\x0e\x0d\x09",  # kinds of fields that there are not, and a number that is cut
    ],
)
def test_what_is_not_valid_ends(raw: bytes) -> None:
    """The decoder refuses it; counting neither fails nor runs without end."""
    assert has_more_values(raw, pb.SendMessageRequest, 3) in {True, False}
    assert not has_more_values(raw, pb.SendMessageRequest, 1000)


def test_the_largest_requests_that_the_contract_allows_are_below_the_limit() -> None:
    """A request within the other limits never reaches this one."""
    reference = message_pb2.FileReferencePart(file_name="a", start_line=1, end_line=2, content="c")
    parts = [message_pb2.UserPart(file_reference=reference)] * PARTS_MAX
    tools = [
        tool_pb2.ToolDefinition(name=f"t{number}", description="d", input_schema_json="{}")
        for number in range(CLIENT_TOOLS_MAX)
    ]
    labels = {str(number): "v" for number in range(64)}
    results = [tool_pb2.ToolResultInput(tool_call_id="x", output_text="y", is_error=True)]
    requests = (
        pb.CreateChatRequest(
            title="t",
            labels=labels,
            tools=tools,
            message=message_pb2.UserMessage(parts=parts),
        ),
        pb.SubmitToolResultsRequest(chat_id="x", results=results * CALLS_PER_ANSWER_MAX),
    )
    for request in requests:
        assert not has_more_values(
            request.SerializeToString(), type(request), REQUEST_VALUES_MAX * 3 // 4
        )
