"""`--json`: every failure is an object on standard output."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from chatd_server.cli.main import asks_for_json, command_line
from tests.cli.programs import Serving, chatd, serving

FAILED, USAGE, DATABASE, ADDRESS = 1, 2, 3, 4
NOBODY = "01890000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of the server."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Serving]:
    """Start a server whose port the settings of its home name."""
    with serving(home) as server:
        (home / "chatd.toml").write_text(f"port = {server.port}\n", encoding="utf-8")
        yield server


def _error(home: Path, *words: str) -> dict[str, Any]:
    """Run a command that fails; return its error, its only output."""
    run = chatd(home, *words, "--json")
    assert run.stderr == ""
    (line,) = run.stdout.splitlines()
    error: dict[str, Any] = json.loads(line)["error"]
    assert set(error) == {"reason", "message", "exit_code"}
    assert error["exit_code"] == run.returncode
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("words", "reason", "code"),
    [
        (["send", "hi", "--model", "sandbox/nope"], "MODEL_NOT_FOUND", FAILED),
        (["send", "hi", "--model", "sandbox/nope", "--no-wait"], "MODEL_NOT_FOUND", FAILED),
        (["send", "hi", "--key", "chatd_wrong"], "UNAUTHENTICATED", FAILED),
        (["send", " "], "USAGE", USAGE),
        (["tail", NOBODY], "CHAT_NOT_FOUND", FAILED),
        (["interrupt", NOBODY], "CHAT_NOT_FOUND", FAILED),
        (["interrupt"], "USAGE", USAGE),
        (["interrupt", NOBODY, "--address", "nonsense"], "USAGE", USAGE),
        (["chat"], "USAGE", USAGE),
        (["health", "--service", "x.Y"], "SERVICE_UNKNOWN", FAILED),
        (["keys", "revoke", "x"], "FAILED", FAILED),
        (["keys", "create", ""], "USAGE", USAGE),
        (["config", "show", "--nonsense"], "USAGE", USAGE),
        (["migrate", "--database-url", "mysql://h/d"], "USAGE", USAGE),
        (["version", "--nonsense"], "USAGE", USAGE),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
@pytest.mark.usefixtures("server")
def test_a_command_that_fails_says_so_in_json(
    home: Path, words: list[str], reason: str, code: int
) -> None:
    """The reason is the server's if there is one; wrong options are failures, too."""
    error = _error(home, *words)
    assert (error["reason"], error["exit_code"]) == (reason, code)


def test_a_command_without_its_database_or_server_says_so_in_json(tmp_path: Path) -> None:
    """Failures on the machine of the command have reasons, too."""
    assert _error(tmp_path, "keys", "list")["reason"] == "DATABASE"
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
    assert _error(tmp_path, "interrupt", NOBODY, "--address", address)["reason"] == "UNREACHABLE"
    assert _error(tmp_path, "health", "--address", address)["reason"] == "UNREACHABLE"


def test_a_server_that_cannot_start_says_so_in_json(tmp_path: Path) -> None:
    """On standard output, where its address would be; its log stays on standard error."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        run = chatd(tmp_path, "serve", "--json", "--port", str(other.getsockname()[1]))
    assert run.returncode == ADDRESS
    error = json.loads(run.stdout)["error"]
    assert (error["reason"], error["exit_code"]) == ("ADDRESS", ADDRESS)
    assert "chatd:" not in run.stderr


@pytest.mark.usefixtures("server")
def test_a_turn_that_fails_ends_the_lines_with_its_error(home: Path) -> None:
    """After all events of the answer."""
    run = chatd(home, "send", "!error auth", "--json")
    assert run.returncode == FAILED
    *events, last = map(json.loads, run.stdout.splitlines())
    assert all("event" in it for it in events)
    assert last["error"]["reason"] == "TURN_FAILED"
    statuses = [it["event"]["statusChanged"] for it in events if "statusChanged" in it["event"]]
    assert last["error"]["message"] == statuses[-1]["lastError"]["message"]


def test_a_message_that_looks_like_an_option_is_none() -> None:
    """Text after -- is part of the message."""
    assert asks_for_json(["send", "--json", "--", "hi"])
    assert not asks_for_json(["send", "--", "--json"])


def test_the_help_of_every_command_says_it() -> None:
    """The help describes --json."""

    def options(command: typer.core.TyperGroup) -> Iterator[str]:
        for it in command.commands.values():
            if isinstance(it, typer.core.TyperGroup):
                yield from options(it)
                continue
            for parameter in it.params:
                if "--json" in parameter.opts:
                    yield str(getattr(parameter, "help", ""))

    group = typer.main.get_command(command_line())
    assert isinstance(group, typer.core.TyperGroup)
    helps = list(options(group))
    assert len(helps) > 5
    assert all("`error`" in it for it in helps)
