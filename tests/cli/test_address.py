"""Which server a command talks to, and with which key: one rule for all commands."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from chatd_client import PermissionDenied
from chatd_server.cli.main import command_line
from chatd_server.cli.options import endpoint, server_address
from chatd_server.config.load import BadConfig, load
from tests.cli.programs import WORDS_OF_GRPC, Serving, chatd, serving

FAILED, USAGE = 1, 2

# Every command that talks to a server, with arguments; CHAT is a chat that exists, MESSAGE its own.
COMMANDS = {
    "chat": ["CHAT"],
    "send": ["!say Hello."],
    "tail": ["CHAT", "--until-settled"],
    "interrupt": ["CHAT"],
    "edit": ["CHAT", "MESSAGE", "!say Hello."],
    "retry": ["CHAT"],
    "fork": ["CHAT"],
    "chats": [],
    "chats archive": ["CHAT"],
    "chats unarchive": ["CHAT"],
    "chats delete": ["CHAT"],
    "chats title": ["CHAT", "new"],
    "chats label": ["CHAT", "a=1"],
    "queue list": ["CHAT"],
    "queue delete": ["CHAT", "MESSAGE"],
    "queue promote": ["CHAT", "MESSAGE"],
    "queue reorder": ["CHAT", "MESSAGE"],
    "compact": ["CHAT"],
    "clear": ["CHAT"],
    "watch": ["--once"],
    "health": [],
}
# What the server says of those that an idle chat refuses.
REFUSALS = {
    "retry": "RetryTurn is not possible while the chat is waiting",
    "queue promote": "PromoteQueued is not possible while the chat is waiting",
    "queue reorder": "must name each of the 0 queued messages once",
}


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


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHATD_ADDRESS", "CHATD_KEY", "CHATD_HOME", "CHATD_PORT", "CHATD_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_every_command_that_takes_an_address_takes_a_home() -> None:
    """The list is complete, so this file tests the rule for each of them."""
    options = dict(options_of(typer.main.get_command(command_line())))
    talking = {name: it for name, it in options.items() if "--address" in it}
    assert set(talking) == set(COMMANDS)
    assert all({"--home", "--config"} <= it for it in talking.values())
    assert {name for name, it in talking.items() if "--key" not in it} == {"health"}


def options_of(command: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the options of every command, also of those in groups."""
    if path:
        yield path, {it for param in command.params for it in param.opts}
    for name, one in getattr(command, "commands", {}).items():
        yield from options_of(one, f"{path} {name}".strip())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_finds_the_server_of_its_home(
    tmp_path: Path, home: Path, server: Serving, command: str
) -> None:
    """The port and the root key come from that home, not from the home in the environment."""
    (tmp_path / "chatd.toml").write_text("port = 1\n", encoding="utf-8")
    (tmp_path / "root.key").write_text("chatd_of_another_home\n", encoding="utf-8")
    # Sent on, so that the chat is idle again.
    sent = chatd(home, "send", "!say Hello.", "--json", "--address", server.address).stdout
    message = json.loads(sent.splitlines()[1])["event"]["messageCommitted"]["message"]
    known = {"CHAT": message["chatId"], "MESSAGE": message["messageId"]}
    words = [known.get(it, it) for it in COMMANDS[command]]
    run = chatd(tmp_path, *command.split(), *words, "--home", str(home))
    assert "Traceback" not in run.stderr
    if command in REFUSALS:
        assert (run.returncode, REFUSALS[command] in run.stderr) == (FAILED, True), run.stderr
    else:
        assert run.returncode == 0, run.stderr


def test_the_address_is_the_flag_then_the_environment_then_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default of the settings comes last."""
    home = {"home": str(tmp_path)}
    assert server_address(load(home, {}).config, None) == "127.0.0.1:7410"
    (tmp_path / "chatd.toml").write_text('host = "::"\nport = 7\n', encoding="utf-8")
    config = load(home, {}).config
    assert server_address(config, None) == "[::1]:7"
    monkeypatch.setenv("CHATD_ADDRESS", "b:2")
    assert server_address(config, None) == "b:2"
    assert server_address(config, "a:1") == "a:1"


def test_the_root_key_is_that_of_the_home_whose_settings_name_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of another home in the environment is not used; a key from the user comes first."""
    for name, port in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chatd.toml").write_text(f"port = {port}\n", encoding="utf-8")
        (tmp_path / name / "root.key").write_text(f"chatd_{name}\n", encoding="utf-8")
    monkeypatch.setenv("CHATD_HOME", str(tmp_path / "one"))
    config = load({"home": str(tmp_path / "two")}, {}).config
    found = endpoint(config, None, None)
    assert (found.address, found.key) == ("127.0.0.1:2", "chatd_two")
    assert endpoint(config, None, "chatd_given").key == "chatd_given"


def test_a_root_key_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """By the name of the file."""
    (tmp_path / "root.key").mkdir()
    with pytest.raises(PermissionDenied, match=r"root\.key cannot be read"):
        endpoint(load({"home": str(tmp_path)}, {}).config, None, None)


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["--key", ""], {}, "the key given by --key is empty"),
        ([], {"CHATD_KEY": ""}, "the key given by CHATD_KEY is empty"),
        (["--key", "k"], {}, "--key is not a chatd API key: keys begin with chatd_"),
        ([], {"CHATD_KEY": "k"}, "CHATD_KEY is not a chatd API key: keys begin with chatd_"),
    ],
    ids=["an empty flag", "an empty variable", "no key in the flag", "no key in the variable"],
)
def test_a_key_that_is_none_is_said_and_is_not_the_root_key(
    tmp_path: Path, words: list[str], variables: dict[str, str], said: str
) -> None:
    """At once, with its source; the root key of the home is not tried instead."""
    (tmp_path / "root.key").write_text("chatd_root\n", encoding="utf-8")
    at = ["--address", "127.0.0.1:1"]
    run = chatd(tmp_path, "send", "hello", *words, *at, **variables)
    assert run.returncode == FAILED
    assert said in run.stderr
    assert "metadata" not in run.stderr


@pytest.mark.parametrize(
    "address", ["nonsense", "h:0", "127.0.0.1:99999", "http://h:1", "::1:7410", "h:", ":1", "h:1 "]
)
def test_an_address_that_is_none_is_a_wrong_option(tmp_path: Path, address: str) -> None:
    """Above 65535, grpc would wrap to another port and send the key there."""
    with pytest.raises(BadConfig, match="host:port"):
        server_address(load({"home": str(tmp_path)}, {}).config, address)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_not_there_is_said_in_one_sentence(tmp_path: Path, command: str) -> None:
    """The address, what was tried, what to do; no text of grpc."""
    nobody = "01890000-0000-7000-8000-000000000000"
    words = [nobody if it == "CHAT" else it for it in COMMANDS[command]]
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
    if command != "health":
        words += ["--retry-seconds", "0.3"]
    run = chatd(tmp_path, *command.split(), *words, "--address", address)
    assert run.returncode == FAILED
    *before, last = run.stderr.splitlines()
    assert address in last
    assert any(word in last for word in ("refused the connection", "within", "times"))
    assert "chatd serve" in last
    assert len(before) <= 1
    for word in WORDS_OF_GRPC:
        assert word not in run.stderr


def test_settings_without_a_port_name_no_server(tmp_path: Path) -> None:
    """Port 0 means any free port, so the address is unknown."""
    run = chatd(tmp_path, "send", "hello", CHATD_PORT="0")
    assert run.returncode == USAGE
    assert "--address" in run.stderr
