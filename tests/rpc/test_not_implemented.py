"""What the contract has and this version has not is refused by name, and nothing is written."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import admin_service_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.rpc.calls import SERVICES
from tests.kit.server import Served, refusal_of, said

ROOT = Path(__file__).parents[2]
METHODS = [(service, method) for service in SERVICES for method in service.methods]


async def test_every_rpc_is_implemented_or_says_that_it_is_not(served: Served) -> None:
    """Walks the descriptor: GetServerInfo's list and NOT_IMPLEMENTED cover it, without overlap."""
    info = await served.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest())
    listed = set(info.implemented_rpcs)
    assert listed <= {f"{service.full_name}/{method.name}" for service, method in METHODS}
    for service, method in METHODS:
        name = f"{service.full_name}/{method.name}"
        reason = await reason_of(served, name, method.server_streaming)
        assert (name, reason == "NOT_IMPLEMENTED") == (name, name not in listed)


async def reason_of(served: Served, name: str, is_streaming: bool) -> str:
    """Call with an empty request; return the reason of the refusal, empty when there is none."""
    kind = served.channel.unary_stream if is_streaming else served.channel.unary_unary
    made: Any = kind(f"/{name}")
    call = made(b"", metadata=served.auth)
    try:
        await (call.read() if is_streaming else call)
    except grpc.aio.AioRpcError as error:
        told = refusal_of(error)
        is_unimplemented = told.code is grpc.StatusCode.UNIMPLEMENTED
        assert (told.reason == "NOT_IMPLEMENTED") == is_unimplemented
        return told.reason
    return ""


async def not_implemented(served: Served) -> set[str]:
    """Return the names of the RPCs that GetServerInfo does not list."""
    info = await served.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest())
    listed = {name.rpartition("/")[2] for name in info.implemented_rpcs}
    return {method.name for _, method in METHODS} - listed


async def test_no_words_of_the_server_name_an_rpc_that_it_does_not_have(served: Served) -> None:
    """Advice must be possible to follow."""
    missing = await not_implemented(served)
    absent = re.compile(rf"\b({'|'.join(missing)})\b" if missing else r"(?!)")
    assert [it for it in sentences() if absent.search(it)] == []


def sentences() -> Iterator[str]:
    """Yield the server's texts of more than one word; no docstrings."""
    for path in (ROOT / "server").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {id(it.value) for it in ast.walk(tree) if isinstance(it, ast.Expr)}
        texts = (it for it in ast.walk(tree) if isinstance(it, ast.Constant))
        for it in texts:
            if isinstance(it.value, str) and " " in it.value and id(it) not in said:
                yield it.value


async def test_the_readme_names_every_rpc_that_is_missing(served: Served) -> None:
    """The page lists exactly those."""
    state = (ROOT / "README.md").read_text(encoding="utf-8").partition("## State")[2]
    sentence = re.search(r"The rest of\s+the contract(.*?)\.\s", state, re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"`([A-Z][a-zA-Z]+)`", sentence[1])) == await not_implemented(served)


@pytest.mark.parametrize(
    "part",
    [
        message_pb2.UserPart(file=message_pb2.FilePart(media_type="image/png", data=b"x")),
        message_pb2.UserPart(file=message_pb2.FilePart(file_id="some")),
    ],
    ids=["inline", "uploaded"],
)
async def test_file_parts_are_refused_before_anything_is_written(
    served: Served, part: message_pb2.UserPart
) -> None:
    """A later version takes them; this one must not lose them silently."""
    message = message_pb2.UserMessage(parts=[*said("look").parts, part])
    refusal = await served.refused("CreateChat", pb.CreateChatRequest(message=message))
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    assert refusal.reason == "NOT_IMPLEMENTED"
    assert not (await served.call("ListChats", pb.ListChatsRequest())).chats

    chat = (await served.call("CreateChat", pb.CreateChatRequest())).chat
    send = pb.SendMessageRequest(chat_id=chat.chat_id, message=message)
    assert (await served.refused("SendMessage", send)).reason == "NOT_IMPLEMENTED"
    after = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat.chat_id))).chat
    assert after == chat


async def test_files_in_results_are_refused_before_anything_is_kept(served: Served) -> None:
    """The action still waits, for a result without files."""
    tool = tool_pb2.ToolDefinition(name="shot")
    created = await served.call(
        "CreateChat", pb.CreateChatRequest(tools=[tool], message=said("!call shot {}"))
    )
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    listed = await served.call("ListPendingActions", pb.ListPendingActionsRequest(chat_id=chat_id))
    (call,) = listed.actions[0].tool_calls
    result = tool_pb2.ToolResultInput(
        tool_call_id=call.tool_call_id,
        output_text="seen",
        files=[message_pb2.ResultFile(file_id=created.chat.chat_id, media_type="image/png")],
    )
    submit = pb.SubmitToolResultsRequest(chat_id=chat_id, results=[result])
    assert (await served.refused("SubmitToolResults", submit)).reason == "NOT_IMPLEMENTED"
    submit.results[0].ClearField("files")
    await served.call("SubmitToolResults", submit)


async def test_an_rpc_that_the_contract_does_not_have_is_grpcs_own_answer(served: Served) -> None:
    """No handler is called; grpc answers UNIMPLEMENTED."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.raw("NoSuchRpc", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
