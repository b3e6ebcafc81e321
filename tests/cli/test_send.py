"""`chatd send` and similar commands: mistakes of users, and closed pipes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2_grpc, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.cli.programs import PROGRAM, SECONDS_MAX, Serving, chatd, environment, serving
from tests.kit.server import bearer, said

FAILED, USAGE, WAITING = 1, 2, 5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """Start a server, and name it in the settings of its home."""
    with serving(tmp_path) as server:
        (tmp_path / "chatd.toml").write_text(f"port = {server.port}\n", encoding="utf-8")
        yield server


class Stub:
    """Calls of the root key."""

    def __init__(self, home: Path, channel: grpc.Channel) -> None:
        self._chats = chat_service_pb2_grpc.ChatServiceStub(channel)
        key = (home / "root.key").read_text(encoding="utf-8").strip()
        self._auth = bearer(key)

    def chats(self) -> list[chat_pb2.Chat]:
        """Return all chats."""
        return list(self._chats.ListChats(pb.ListChatsRequest(), metadata=self._auth).chats)

    def until(self, chat_id: str, kind: str) -> None:
        """Wait for an event of a chat."""
        responses = self._chats.Subscribe(pb.SubscribeRequest(chat_id=chat_id), metadata=self._auth)
        for response in responses:
            if response.event.WhichOneof("event") == kind:
                responses.cancel()
                return

    def waiting_chat(self) -> str:
        """Make a chat that waits for a client tool; return its id."""
        schema = '{"type": "object"}'
        tool = tool_pb2.ToolDefinition(name="get_weather", input_schema_json=schema)
        request = pb.CreateChatRequest(tools=[tool], message=said("!call get_weather {}"))
        chat_id = self._chats.CreateChat(request, metadata=self._auth).chat.chat_id
        until = pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
        follow = pb.SubscribeRequest(chat_id=chat_id, until=until)
        for _ in self._chats.Subscribe(follow, metadata=self._auth):
            pass
        return str(chat_id)


@pytest.fixture
def stub(tmp_path: Path, server: Serving) -> Iterator[Stub]:
    """Connect to the server."""
    with grpc.insecure_channel(server.address) as channel:
        yield Stub(tmp_path, channel)


@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
def test_a_refused_message_leaves_no_chat(tmp_path: Path, stub: Stub, wait: str) -> None:
    """The chat is created together with its first message."""
    run = chatd(tmp_path, "send", wait, "--model", "nobody/none", "hello")
    assert run.returncode == FAILED
    run = chatd(tmp_path, "send", wait, "x" * 100_000 + "\udcff")
    assert run.returncode == USAGE
    assert stub.chats() == []
    assert chatd(tmp_path, "send", wait, "!say Hello.").returncode == 0
    assert len(stub.chats()) == 1


def test_a_message_to_a_chat_that_waits_for_tools_says_why_and_what_to_do(
    tmp_path: Path, stub: Stub
) -> None:
    """The tools, and the command that ends the wait; after it, the message is answered."""
    chat_id = stub.waiting_chat()
    run = chatd(tmp_path, "send", "--chat", chat_id, "!say Answered.")
    assert (run.returncode, run.stdout) == (WAITING, "")
    assert run.stderr.count("waits for results of client tools (get_weather)") == 1
    assert f"chatd interrupt {chat_id}" in run.stderr

    stopped = chatd(tmp_path, "interrupt", chat_id)
    assert (stopped.returncode, stopped.stdout) == (0, "interrupted\n")
    shown = chatd(tmp_path, "tail", "--until-settled", chat_id).stdout
    assert "Answered." in shown.splitlines()
    again = chatd(tmp_path, "interrupt", "--json", chat_id)
    assert (again.returncode, again.stdout) == (0, '{"interrupted": false}\n')


def test_a_turn_that_waits_for_client_tools_is_not_a_success(tmp_path: Path, stub: Stub) -> None:
    """It has its own exit code; with --json, the last line says what the chat waits for."""
    chat_id = stub.waiting_chat()
    assert chatd(tmp_path, "interrupt", chat_id).returncode == 0
    run = chatd(tmp_path, "send", "--chat", chat_id, "!say One moment.\n!call get_weather {}")
    assert (run.returncode, run.stdout) == (WAITING, "")
    assert "no answer yet: the chat waits for results of client tools (get_weather)" in run.stderr
    assert chatd(tmp_path, "interrupt", chat_id).returncode == 0

    run = chatd(tmp_path, "send", "--json", "--chat", chat_id, "!call get_weather {}")
    assert (run.returncode, run.stderr) == (WAITING, "")
    error = json.loads(run.stdout.splitlines()[-1])["error"]
    assert (error["reason"], error["exit_code"]) == ("WAITING_FOR_TOOLS", WAITING)
    assert "get_weather" in error["message"]
    assert f"chatd interrupt {chat_id}" in error["message"]

    later = chatd(tmp_path, "send", "--no-wait", "--chat", chat_id, "!say Answered.")
    assert (later.returncode, later.stdout) == (0, f"{chat_id}\n")
    assert "queued: the chat waits" in later.stderr


def test_a_chat_that_waits_for_client_tools_says_how_to_stop_the_turn(
    tmp_path: Path, stub: Stub
) -> None:
    """At the prompt, Ctrl-C quits, so a command is shown: when the chat is opened, and when an
    answer ends in this way.
    """
    chat_id = stub.waiting_chat()
    hint = f"  ? to stop that turn instead: chatd interrupt {chat_id}"
    opened = chatd(tmp_path, "chat", chat_id)
    assert (opened.returncode, opened.stdout.splitlines().count(hint)) == (0, 1)
    assert chatd(tmp_path, "interrupt", chat_id).returncode == 0
    asked = chatd(tmp_path, "chat", chat_id, typed="!call get_weather {}\n")
    assert (asked.returncode, asked.stdout.splitlines().count(hint)) == (0, 1)


@pytest.mark.usefixtures("server")
def test_standard_output_of_send_is_the_final_answer_alone(tmp_path: Path) -> None:
    """No text of a cut attempt, no earlier answers of the turn: these are on standard error."""
    words = (
        "!think 2\n!say First words.\n!cut\n"
        '!call current_time {"timezone": "Europe/Oslo"}\n!step\n!say The answer.'
    )
    run = chatd(tmp_path, "send", words)
    assert (run.returncode, run.stdout) == (0, "The answer.\n")
    assert "attempt 1 failed; attempt 2 in 1 s" in run.stderr
    assert "current_time" in run.stderr
    assert "First words." not in run.stderr


@pytest.mark.usefixtures("server")
def test_a_failed_turn_leaves_standard_output_empty(tmp_path: Path) -> None:
    """Standard error has the failure, and nothing has text of the answer that broke off."""
    run = chatd(tmp_path, "send", "!say Half an answer.\n!error auth")
    assert (run.returncode, run.stdout) == (FAILED, "")
    assert "✗" in run.stderr


def test_an_answer_to_a_queued_message_is_its_own(tmp_path: Path, stub: Stub) -> None:
    """Not the answer of the turn that was open when the message was sent."""
    chat_id = chatd(tmp_path, "send", "--no-wait", "!text 20000 50/s").stdout.strip()
    stub.until(chat_id, "message_part")
    process = subprocess.Popen(
        [*PROGRAM, "send", "--chat", chat_id, "!say Mine."],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "1 queued" in process.stderr.readline()
    assert chatd(tmp_path, "interrupt", chat_id).stdout == "interrupted\n"
    output, errors = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, output) == (0, "Mine.\n")
    assert "interrupted" in errors


def test_tail_says_once_that_an_answer_was_interrupted(tmp_path: Path, stub: Stub) -> None:
    """Live, and later from the messages."""
    chat_id = chatd(tmp_path, "send", "--no-wait", "!text 20000 50/s").stdout.strip()
    live = subprocess.Popen(
        [*PROGRAM, "tail", "--until-settled", chat_id],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert live.stdout is not None
    assert live.stdout.readline().startswith(f"chat {chat_id}")
    stub.until(chat_id, "message_part")
    assert chatd(tmp_path, "interrupt", chat_id).stdout == "interrupted\n"
    seen_live, _ = live.communicate(timeout=SECONDS_MAX)
    assert seen_live.splitlines().count("  ■ interrupted") == 1

    assert chatd(tmp_path, "send", "--chat", chat_id, "!say Later.").stdout == "Later.\n"
    lines = chatd(tmp_path, "tail", "--until-settled", chat_id).stdout.splitlines()
    assert lines.count("  ■ interrupted") == 1
    assert lines.index("  ■ interrupted") < lines.index("> !say Later.")
    assert lines[-1] == "Later."


@pytest.mark.usefixtures("server")
def test_tail_shows_the_failed_turns_of_the_past(tmp_path: Path) -> None:
    """One line each, after the messages of the turn; also for the last turn."""
    failed = chatd(tmp_path, "send", "!error auth")
    chat_id = failed.stderr.split()[1]
    said = failed.stderr.splitlines()[-1]
    assert said.startswith("  ✗ ")
    assert chatd(tmp_path, "send", "--chat", chat_id, "!say Fine.").returncode == 0
    assert chatd(tmp_path, "send", "--chat", chat_id, "!error auth").returncode == FAILED
    for command in ("tail", "chat"):
        words = ["--until-settled"] if command == "tail" else []
        lines = chatd(tmp_path, command, *words, chat_id).stdout.rstrip().splitlines()
        assert lines[1:] == ["> !error auth", said, "> !say Fine.", "Fine.", "> !error auth", said]


@pytest.mark.parametrize("words", [["tail"], ["tail", "--json"]], ids=["text", "json"])
@pytest.mark.usefixtures("server")
def test_a_reader_that_leaves_ends_the_command(tmp_path: Path, words: list[str]) -> None:
    """As with `| head -1`: no message, and no delay."""
    chat_id = chatd(tmp_path, "send", "--no-wait", "!text 20000 200/s").stdout.strip()
    process = subprocess.Popen(
        [*PROGRAM, *words, chat_id],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(SECONDS_MAX) == FAILED
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_a_message_whose_answer_is_given_up_says_how_to_go_on(
    tmp_path: Path, server: Serving, words: list[str]
) -> None:
    """The message names the command and the chat; with --retry-seconds 0, after one try."""
    process = subprocess.Popen(
        [*PROGRAM, "send", "!text 20000 50/s", "--retry-seconds", "0", *words],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert (process.stdout if words else process.stderr).readline()
    chat_id = chatd(tmp_path, "chats").stdout.partition("\t")[0]
    server.process.kill()
    output, errors = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == FAILED
    told = json.loads(output.splitlines()[-1])["error"]["message"] if words else errors
    assert f"chatd tail {chat_id}" in told
    assert "lost" in told
    assert "trying" not in errors


def test_closed_standard_input_is_nothing_to_say(tmp_path: Path) -> None:
    """A shell can close it with `<&-`."""
    run = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" send - <&-', sys.executable, PROGRAM[2]],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert run.returncode == USAGE
    assert "message is empty" in run.stderr
    assert "Traceback" not in run.stderr
