"""`chatd send`, `tail` and `chat` as a person types them, against a server process."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatd_server.clock import RealClock
from chatd_server.demo.server import ServerProcess
from tests.cli.terminals import PROMPT

pytestmark = pytest.mark.timeout(120)


class Terminal:
    """Runs `chatd` commands against one server."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    async def run(
        self, *words: str, typed: str | bytes = "", key: str | None = None
    ) -> tuple[int, str, str]:
        """Run one command; return its exit code, output and errors."""
        pipe = asyncio.subprocess.PIPE
        process = await self.start(*words, key=key, stdin=pipe, stdout=pipe, stderr=pipe)
        given = typed.encode() if isinstance(typed, str) else typed
        output, errors = await process.communicate(given)
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    async def start(self, *words: str, key: str | None = None, **streams: int) -> Process:
        """Start one command."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chatd_server", *words),
            stdin=streams["stdin"],
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            env={
                **{name: it for name, it in os.environ.items() if not name.startswith("CHATD_")},
                "TERM": "xterm",
                "CHATD_ADDRESS": f"127.0.0.1:{self._server.port}",
                "CHATD_KEY": self._server.key if key is None else key,
            },
        )


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    """Start a server, and stop it."""
    server = ServerProcess(tmp_path)
    await server.start()
    yield Terminal(server)
    await server.stop()


async def test_send_prints_the_answer_and_tail_prints_the_chat(terminal: Terminal) -> None:
    """One message, its answer, and the same conversation again from the log."""
    code, output, errors = await terminal.run("send", "!say Hello there.")
    assert (code, output) == (0, "Hello there.\n")
    chat_id = errors.split()[1]
    code, output, _ = await terminal.run("send", "--chat", chat_id, "!say And again.")
    assert (code, output) == (0, "And again.\n")
    code, output, _ = await terminal.run("tail", chat_id, "--until-settled")
    assert code == 0
    for words in ("> !say Hello there.", "Hello there.", "> !say And again.", "And again."):
        assert words in output.splitlines()


async def test_json_is_one_object_a_line(terminal: Terminal) -> None:
    """Every response is a line that a machine reads, with the cursor to resume from."""
    # At a pace: an answer may be over before anybody follows it.
    code, output, _ = await terminal.run("send", "--json", "!text 10 20/s")
    responses = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    kinds = [next(k for k in r["event"] if k not in ("sequence", "eventTime")) for r in responses]
    assert "messagePart" in kinds
    assert kinds[-1] == "streamEnd"
    assert all("cursor" in response for response in responses)


async def test_chat_answers_until_the_end_of_input(terminal: Terminal) -> None:
    """Each line is a message; the end of input ends the conversation and not the chat."""
    code, output, _ = await terminal.run("chat", typed="!say One.\n!say Two.\n")
    assert code == 0
    assert output.index("One.") < output.index("Two.")


async def test_a_wrong_key_says_what_to_do(terminal: Terminal) -> None:
    """The error names the three places that a key comes from."""
    code, _, errors = await terminal.run("send", "hello", key="chatd_wrong")
    assert code == 1
    assert "CHATD_KEY" in errors
    assert "Traceback" not in errors


async def test_a_chat_that_is_not_there_says_so(terminal: Terminal) -> None:
    """One line, no traceback."""
    code, _, errors = await terminal.run("tail", "01890000-0000-7000-8000-000000000000")
    assert code == 1
    assert "no chat" in errors
    assert "Traceback" not in errors


async def test_a_turn_that_failed_is_a_failure_of_send(terminal: Terminal) -> None:
    """A script sees it by the exit code, also with --json."""
    for words in (("send", "!error auth"), ("send", "--json", "!error auth")):
        code, output, errors = await terminal.run(*words)
        assert code == 1
        assert "auth" in (output if "--json" in words else errors)


async def test_send_takes_its_model_for_a_known_chat_too(terminal: Terminal) -> None:
    """The flag counts for this turn; it is not silently left out."""
    _, chat_id, _ = await terminal.run("send", "--no-wait", "!say Hello.")
    words = ("--chat", chat_id.strip(), "--model", "sandbox/none", "!say Hello.")
    code, _, errors = await terminal.run("send", *words)
    assert code == 1
    assert "options.model" in errors


@pytest.mark.parametrize("typed", [b" \n", b"\xff\xfe"], ids=["nothing", "no text"])
async def test_what_cannot_be_said_is_a_wrong_argument(terminal: Terminal, typed: bytes) -> None:
    """It is seen before a chat is made for it."""
    code, output, errors = await terminal.run("send", "-", typed=typed)
    assert (code, output) == (2, "")
    assert "Traceback" not in errors
    assert "chat " not in errors


@pytest.mark.parametrize("coding", ["utf-8:surrogateescape", "utf-8:strict"])
async def test_a_line_that_cannot_be_sent_does_not_end_the_chat(
    terminal: Terminal, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip of the keyboard costs the line and not the conversation. What Python makes of such
    bytes depends on the locale.
    """
    monkeypatch.setenv("PYTHONIOENCODING", coding)
    ours, theirs = pty.openpty()
    process = await terminal.start("chat", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    for typed, answer in (
        (b"", PROMPT.encode()),
        (b"\xff\xfe\n", b"UTF-8"),
        (b"!text 3\n", b"sandbox says\r\n" + PROMPT.encode()),
    ):
        os.write(ours, typed)
        while answer not in shown:
            shown += await asyncio.to_thread(os.read, ours, 4096)
    os.write(ours, b"\x04")
    assert await process.wait() == 0
    assert b"Traceback" not in shown
    os.close(ours)


async def test_a_refused_message_does_not_end_the_chat(terminal: Terminal) -> None:
    """The refusal is shown, and the next line is a message again."""
    typed = f"{'x' * 300_000}\n!say Still here.\n"
    code, output, _ = await terminal.run("chat", typed=typed)
    assert code == 0
    assert output.index("262144 bytes") < output.index("Still here.")


@pytest.mark.parametrize(
    ("size", "words"), [(3_600_000, "the request has 3600"), (5_000_000, "the request has 5000")]
)
async def test_a_message_that_is_too_large_is_not_a_server_that_is_down(
    terminal: Terminal, size: int, words: str
) -> None:
    """Also above grpc's own limit, where the answer is not ours."""
    code, _, errors = await terminal.run("send", "-", typed="x" * size)
    assert code == 1
    assert words in errors
    assert "chatd serve" not in errors


@pytest.mark.parametrize("key", ["chatd_ä", "chatd_a\nb"])
async def test_a_key_that_cannot_travel_says_so(terminal: Terminal, key: str) -> None:
    """It is looked at before grpc fails on it."""
    code, _, errors = await terminal.run("send", "hello", key=key)
    assert code == 1
    assert "CHATD_KEY" in errors
    assert "Traceback" not in errors


async def test_ctrl_c_at_the_prompt_leaves_the_chat(terminal: Terminal) -> None:
    """At once: nothing waits for the end of a line that nobody types."""
    ours, theirs = pty.openpty()
    process = await terminal.start("chat", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while PROMPT.encode() not in shown:
        shown += await asyncio.to_thread(os.read, ours, 4096)
    while process.returncode is None:
        process.send_signal(signal.SIGINT)
        # A signal that comes just before the line is read is only seen with the next one.
        with contextlib.suppress(TimeoutError):
            async with RealClock().timeout(2, "test.ctrl_c"):
                await process.wait()
    assert process.returncode == 0
    os.close(ours)
