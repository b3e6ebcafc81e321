"""`chatd chat`, `send` and `tail` on a terminal: what Ctrl-C and Ctrl-D do there."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.programs import PROGRAM, WORDS_OF_GRPC, chatd, environment, serving
from tests.cli.terminals import (
    ANSWER,
    CTRL_C,
    CTRL_D,
    LEFT,
    PROMPT,
    UP,
    Seat,
    terminal,
)

INTERRUPTED, TERMINATED = 130, 143
LONG = "!text 20000 50/s"

# A shell without job control, as in a script: the server is in the process group of the chat, and
# is protected from Ctrl-C only because the shell makes it ignore SIGINT. The shell has a trap.
SAME_SHELL = """
trap : INT
"$0" -c "$1" serve --port 0 --json >"$2" 2>/dev/null &
until [ -s "$2" ]; do :; done
address=$(sed 's/.*"address": "\\([^"]*\\)".*/\\1/' "$2")
"$0" -c "$1" chat --address "$address"
echo "chat ended with $?"
kill -0 $! && echo "the server runs"
kill $!
wait $!
"""


# Ctrl-C, at the moment when a module is loaded.
INTERRUPTED_AT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from chatd_server.cli import main
main()
"""


@contextmanager
def _typing(home: Path, *words: str) -> Iterator[Seat]:
    with terminal([*PROGRAM, *words], environment(home)) as seat:
        yield seat


@pytest.mark.parametrize("options", [[], ["-m"]], ids=["no job control", "job control"])
def test_ctrl_c_in_a_chat_leaves_the_server_of_the_same_shell_alone(
    tmp_path: Path, options: list[str]
) -> None:
    """It stops the answer; the conversation and the server go on."""
    words = ["/bin/sh", *options, "-c", SAME_SHELL, *(sys.executable, PROGRAM[2])]
    with terminal([*words, str(tmp_path / "facts")], environment(tmp_path)) as seat:
        seat.until(PROMPT)
        seat.note_processes()
        seat.types(LONG.encode() + b"\n")
        seat.until("sandbox says")
        seat.types(CTRL_C)
        seat.until("interrupted")
        seat.until(PROMPT)
        seat.types(b"!say Still here.\n")
        seat.until(ANSWER)
        seat.until("Still here.")
        seat.until(PROMPT)
        seat.types(CTRL_D)
        seat.until("chat ended with 0")
        seat.until("the server runs")
        seat.ends()
        assert seat.left_behind() == []


def test_ctrl_c_at_the_prompt_leaves_the_chat(tmp_path: Path) -> None:
    """At once on an empty line: nothing waits for the end of the line."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(CTRL_C)
        assert seat.ends() == 0


@pytest.mark.parametrize("module", ["typer", "chatd_client.chat", "prompt_toolkit"])
def test_ctrl_c_before_the_prompt_leaves_without_a_traceback(tmp_path: Path, module: str) -> None:
    """Whatever the program loads at that moment."""
    with serving(tmp_path) as server:
        words = [sys.executable, "-c", INTERRUPTED_AT, "chat", "--address", server.address]
        with terminal(words, environment(tmp_path, INTERRUPTED_AT=module)) as seat:
            assert seat.ends() == INTERRUPTED
    assert b"Traceback" not in seat.shown


def test_ctrl_d_before_the_prompt_is_kept(tmp_path: Path) -> None:
    """It quits when the prompt appears."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.types(CTRL_D)
        assert seat.ends() == 0
        assert PROMPT.encode() in seat.shown


def test_a_chat_is_made_with_its_first_message(tmp_path: Path) -> None:
    """Without a message, no chat is created."""
    with serving(tmp_path) as server:
        at = ["--address", server.address]
        for keys in (CTRL_D, b"!say Hello.\n"):
            with _typing(tmp_path, "chat", *at) as seat:
                seat.until(PROMPT)
                assert chatd(tmp_path, "chats", *at).stdout == ""
                seat.types(keys)
                if keys != CTRL_D:
                    seat.until("Hello.")
                    seat.until("Hello.")
                    seat.until(PROMPT)
                    seat.types(CTRL_D)
                assert seat.ends() == 0
        (chat,) = chatd(tmp_path, "chats", *at).stdout.splitlines()
        assert chat.partition("\t")[0].encode() in seat.shown


def test_ctrl_c_on_a_line_clears_it(tmp_path: Path) -> None:
    """As in a shell: the text is removed, and the conversation goes on."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(b"never sent")
        seat.until("never sent")
        seat.types(CTRL_C + b"!say Still here.\n")
        seat.until(ANSWER)
        seat.until("Still here.")
        seat.until(PROMPT)
        seat.types(CTRL_C)
        assert seat.ends() == 0


def test_ctrl_d_during_an_answer_leaves_after_it(tmp_path: Path) -> None:
    """As at the next prompt: the answer is shown to its end."""
    with serving(tmp_path) as server:
        at = ["--address", server.address]
        with _typing(tmp_path, "chat", *at) as seat:
            seat.until(PROMPT)
            seat.types(b"!text 20 20/s\n")
            seat.until("sandbox says")
            seat.types(CTRL_D)
            assert seat.ends() == 0
        chat_id = chatd(tmp_path, "chats", *at).stdout.partition("\t")[0]
        told = chatd(tmp_path, "tail", "--until-settled", chat_id, *at).stdout
        answer = told.splitlines()[-1]
        assert answer.startswith("the sandbox says")
        assert answer.encode() in seat.shown


def test_a_line_can_be_edited_and_called_back(tmp_path: Path) -> None:
    """Arrows move in the line and through the lines before; Ctrl-D on words does not leave."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(b"!say Hallp there." + LEFT * 7 + b"\x7fo" + LEFT * 4 + CTRL_D + b"e\n")
        seat.until(ANSWER)
        seat.until("Hello there.")
        seat.until(PROMPT)
        seat.types(UP + b"\x7f, again." + b"\n")
        seat.until(ANSWER)
        seat.until("Hello there, again.")
        seat.until(PROMPT)
        assert b"^[[" not in seat.shown
        seat.types(CTRL_D)
        assert seat.ends() == 0


@pytest.mark.parametrize("end", ["ctrl-c", "ctrl-d", "SIGTERM"])
def test_a_chat_leaves_the_terminal_as_it_was(tmp_path: Path, end: str) -> None:
    """After each kind of end, the shell has echo, lines and signals again."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        before = seat.settings()
        seat.until(PROMPT)
        seat.types(b"!say One.\n")
        seat.until(ANSWER)
        seat.until("One.")
        seat.until(PROMPT)
        assert seat.settings() != before, "the line is edited by the program"
        if end == "ctrl-d":
            seat.types(CTRL_D)
        else:
            seat.types(b"half a line")
            seat.until("half a line")
        if end == "ctrl-c":
            seat.types(CTRL_C + CTRL_C)
        if end == "SIGTERM":
            seat.process.terminate()
        assert seat.ends() == (TERMINATED if end == "SIGTERM" else 0)
        assert b"Traceback" not in seat.shown
        assert seat.settings() == before


def test_lines_that_are_typed_ahead_are_all_heard(tmp_path: Path) -> None:
    """During the first answer, and all at once; each is shown once."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(b"!say One.\n!say Two.\n!text 10 20/s\n")
        seat.until(ANSWER)
        seat.until("One.")
        seat.until(ANSWER)
        seat.until("Two.")
        seat.until(ANSWER)
        seat.until("the sandbox says")
        seat.types(b"!say Three.\n")
        seat.until(ANSWER)
        seat.until("Three.")
        seat.until(PROMPT)
        seat.types(CTRL_D)
        assert seat.ends() == 0
        # The editor may draw its line again in place; during the answer nothing shows the keys.
        answer = seat.shown.partition(b"the sandbox says")[2].partition(PROMPT.encode())[0]
        assert b"Three" not in answer


def test_a_second_ctrl_c_leaves_a_chat_whose_server_is_silent(tmp_path: Path) -> None:
    """The first one asks the server to stop; the second does not wait for a stuck server."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(LONG.encode() + b"\n")
        seat.until("sandbox says")
        stuck = psutil.Process(server.process.pid)
        stuck.suspend()
        seat.types(CTRL_C)
        seat.until("Ctrl-C again quits")  # two signals at once would be one
        seat.types(CTRL_C)
        assert seat.ends() == INTERRUPTED
        assert b"is not confirmed" in seat.shown
        assert b"Traceback" not in seat.shown
        stuck.resume()


def test_a_second_ctrl_c_leaves_after_a_stop_that_did_not_reach_the_server(tmp_path: Path) -> None:
    """The chat says that the answer was not stopped and how to stop it later; Ctrl-C again quits,
    as announced.
    """
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(LONG.encode() + b"\n")
        seat.until("sandbox says")
        server.process.kill()
        seat.until("trying for up to")
        seat.types(CTRL_C)
        seat.until("Ctrl-C again quits")
        seat.until("the answer was not stopped: no server answers")
        seat.until("chatd interrupt")
        seat.types(CTRL_C)
        assert seat.ends() == INTERRUPTED
        assert seat.shown.count(b"stopping the answer") == 1
        assert b"Traceback" not in seat.shown


def test_a_second_ctrl_c_leaves_an_answer_that_goes_on_after_its_stop(tmp_path: Path) -> None:
    """The queued message is answered next; quitting does not wait for that."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "chat", "--address", server.address) as seat,
    ):
        seat.until(PROMPT)
        seat.types(b"!say Begin.\n")
        seat.until(PROMPT)
        at = ["--address", server.address]
        chat_id = chatd(tmp_path, "chats", *at).stdout.partition("\t")[0]
        seat.types(LONG.encode() + b"\n")
        seat.until("sandbox says")
        chatd(tmp_path, "send", "--no-wait", "--chat", chat_id, LONG, *at)
        seat.until("1 queued")
        seat.types(CTRL_C)
        seat.until("interrupted")
        seat.until("sandbox says")
        seat.types(CTRL_C)
        assert seat.ends() == INTERRUPTED
        assert seat.shown.count(b"stopping the answer") == 1


def test_send_shows_live_text_on_a_terminal(tmp_path: Path) -> None:
    """A person has seen text that is void now, and a line says so."""
    with (
        serving(tmp_path) as server,
        _typing(tmp_path, "send", "!text 40 20/s\n!cut", "--address", server.address) as seat,
    ):
        seat.until("sandbox says")
        seat.until("attempt 1 failed; attempt 2 in 1 s")
        seat.until("sandbox says")
        assert seat.ends() == 0


@pytest.mark.parametrize("command", ["send", "tail"])
def test_ctrl_c_ends_a_command_cleanly(tmp_path: Path, command: str) -> None:
    """Exit 130 and no traceback; the server continues the turn."""
    with serving(tmp_path) as server:
        at = ["--address", server.address]
        words = ["send", LONG]
        if command == "tail":
            words = ["tail", chatd(tmp_path, "send", "--no-wait", LONG, *at).stdout.strip()]
        with _typing(tmp_path, *words, *at) as seat:
            seat.until("sandbox says")
            seat.types(CTRL_C)
            assert seat.ends() == INTERRUPTED
            assert b"Traceback" not in seat.shown
        assert chatd(tmp_path, "health", *at).returncode == 0


@pytest.mark.parametrize("command", ["chat", "send"])
def test_a_server_that_does_not_come_back_is_given_up(tmp_path: Path, command: str) -> None:
    """After --retry-seconds: what happened, what to do, and a failure."""
    with serving(tmp_path) as server:
        words = ["chat"] if command == "chat" else ["send", LONG]
        options = ["--address", server.address, "--retry-seconds", "0.5"]
        with _typing(tmp_path, *words, *options) as seat:
            if command == "chat":
                seat.until(PROMPT)
                seat.types(LONG.encode() + b"\n")
            seat.until("sandbox says")
            server.process.kill()
            assert seat.ends() == 1
    assert f"the server at {server.address} did not answer within 0.5 s".encode() in seat.shown
    assert b"chatd serve" in seat.shown
    assert b"Traceback" not in seat.shown
    assert seat.shown.count(b"; trying for up to 0.5 s") == 1
    for raw in WORDS_OF_GRPC:
        assert raw.encode() not in seat.shown
