"""The example of the blocking stub, on grpcio-testing's channel: what it asks and what it reads.

grpcio-testing is for synchronous clients only: it reports OK for a coroutine that nobody
awaited, so a test of an asynchronous servicer on it could not fail.
"""

import asyncio
import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import grpc
import grpc_testing
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2
from chatd_server.demo.server import ServerProcess
from tests.client.scripted import Script, delta, ended, scripted_server

pytestmark = pytest.mark.timeout(120)

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_stub.py"
SERVICE = chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"]


@pytest.fixture
def example() -> ModuleType:
    """Load the example as a program would be loaded."""
    spec = importlib.util.spec_from_file_location("plain_stub", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _piece(text: str) -> chat_service_pb2.SubscribeResponse:
    part = event_pb2.MessagePart(attempt_id="a", text=text)
    return chat_service_pb2.SubscribeResponse(event=event_pb2.ChatEvent(message_part=part))


def test_the_example_sends_its_key_and_reads_the_words(example: ModuleType) -> None:
    """It creates a chat with the message, subscribes to that chat, and yields the text."""
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    with ThreadPoolExecutor(1) as pool:
        words = pool.submit(lambda: list(example.say(channel, "chatd_k", "hi")))
        metadata, created, rpc = channel.take_unary_unary(SERVICE.methods_by_name["CreateChat"])
        assert ("authorization", "Bearer chatd_k") in metadata
        assert created.message.parts[0].text.text == "hi"
        chat = chat_pb2.Chat(chat_id="c1")
        response = chat_service_pb2.CreateChatResponse(chat=chat)
        rpc.terminate(response, (), grpc.StatusCode.OK, "")

        metadata, request, stream = channel.take_unary_stream(SERVICE.methods_by_name["Subscribe"])
        assert ("authorization", "Bearer chatd_k") in metadata
        assert request.chat_id == "c1"
        for text in ("Hel", "lo"):
            stream.send_response(_piece(text))
        stream.send_response(ended(event_pb2.STREAM_END_REASON_UNTIL_REACHED))
        stream.terminate((), grpc.StatusCode.OK, "")
        assert words.result() == ["Hel", "lo"]


def test_the_example_does_not_hide_a_refusal(example: ModuleType) -> None:
    """A wrong key reaches the caller as gRPC's own error."""
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    with ThreadPoolExecutor(1) as pool:
        words = pool.submit(lambda: list(example.say(channel, "wrong", "hi")))
        _, _, rpc = channel.take_unary_unary(SERVICE.methods_by_name["CreateChat"])
        rpc.terminate(None, (), grpc.StatusCode.UNAUTHENTICATED, "no such key")
        with pytest.raises(grpc.RpcError):
            words.result()


async def _said(text: str, address: str, key: str) -> tuple[int, str, str]:
    """Run the example to its end; return its exit code, output and errors."""
    program = _started(text, CHATD_ADDRESS=address, CHATD_KEY=key)
    output, errors = await asyncio.to_thread(program.communicate, timeout=60)
    return program.returncode, output, errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("!say Hello.", "Hello.\n", id="an answer"),
        pytest.param("!refuse I will not.", "I will not.\n", id="a refusal"),
        pytest.param("!say One.\n!call nobody {}\n!step\n!say Two.", "One.\nTwo.\n", id="steps"),
    ],
)
async def test_the_example_prints_every_answer_once(
    server: ServerProcess, text: str, said: str
) -> None:
    """Also one that was committed before the stream began."""
    code, output, errors = await _said(text, f"127.0.0.1:{server.port}", server.key)
    assert (code, output, errors) == (0, said, "")


async def test_the_example_says_what_is_void(server: ServerProcess) -> None:
    """The model breaks off, and its answer begins again."""
    text = "!text 20 10/s\n!cut\n!say The end."
    code, output, errors = await _said(text, f"127.0.0.1:{server.port}", server.key)
    assert (code, errors) == (0, "")
    void, mark, answer = output.partition("\n[the answer broke off here, and begins again]\n")
    assert mark
    assert answer.startswith(void)
    assert answer.endswith("The end.\n")


async def test_the_example_with_a_turn_that_failed_is_a_failure(server: ServerProcess) -> None:
    """One sentence, and exit code 1."""
    code, output, errors = await _said("!error auth", f"127.0.0.1:{server.port}", server.key)
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("The turn failed: ")


async def test_the_example_with_a_wrong_key_says_so(server: ServerProcess) -> None:
    """One sentence, and no traceback."""
    code, output, errors = await _said("hi", f"127.0.0.1:{server.port}", "chatd_wrong")
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert "refused" in line


async def test_the_example_without_a_server_says_so() -> None:
    """One sentence, and no traceback."""
    code, output, errors = await _said("hi", "127.0.0.1:1", "chatd_k")
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line == "No server answers at 127.0.0.1:1: start one with `chatd serve`."


@pytest.mark.parametrize("cut", ["UNAVAILABLE", "UNKNOWN", "CANCELLED", "UNAUTHENTICATED", None])
async def test_the_example_goes_on_where_its_stream_was_cut(cut: str | None) -> None:
    """Whatever the code says: an error without ErrorInfo is of the connection."""
    async with scripted_server() as (service, address):
        chat = chat_pb2.Chat(chat_id="c1")
        service.answer = lambda _: chat_service_pb2.CreateChatResponse(chat=chat, sequence=4)
        first = delta("Hel", at=0)
        service.scripts = [
            Script([first], end=None if cut is None else grpc.StatusCode[cut]),
            Script([delta("lo", at=3), ended(event_pb2.STREAM_END_REASON_UNTIL_REACHED)]),
        ]
        code, output, errors = await _said("hi", address, "chatd_k")
    assert (code, output, errors) == (0, "Hello", "")
    begun, resumed = (it.resume_from for it in service.subscribes)
    assert begun.sequence == 4
    assert resumed == first.cursor


def _started(text: str, **settings: str) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATD_")}
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE), text],
        env={**kept, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_example_without_a_key_says_what_is_missing(tmp_path: Path) -> None:
    """One sentence, and no traceback."""
    program = _started("hi", CHATD_HOME=str(tmp_path))
    output, errors = program.communicate(timeout=30)
    assert (program.returncode, output) == (1, "")
    (line,) = errors.splitlines()
    assert str(tmp_path / "root.key") in line
    assert "chatd serve" in line


async def test_the_example_ends_when_nobody_reads_it(server: ServerProcess) -> None:
    """As with `| head -1`: one sentence, and no traceback."""
    address = f"127.0.0.1:{server.port}"
    program = _started("!text 20000 200/s", CHATD_ADDRESS=address, CHATD_KEY=server.key)
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.read(1)
    program.stdout.close()
    assert program.wait(30) == 1
    (line,) = program.stderr.read().splitlines()
    assert "goes on at the server" in line
    program.stderr.close()
