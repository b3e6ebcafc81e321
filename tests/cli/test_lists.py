"""`chatd chats`, `keys list` and `config show`: for people at 80 columns, and for pipes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2_grpc
from chatd.v1 import chat_service_pb2 as pb
from tests.cli.programs import PROGRAM, Serving, chatd, environment, serving
from tests.cli.terminals import terminal
from tests.kit.server import bearer, said

USAGE = 2
WIDTH = 80
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


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


@pytest.fixture(scope="module")
def made(home: Path, server: Serving) -> list[chat_pb2.Chat]:
    """Make three chats, the last one in ERROR; return them, oldest first."""
    metadata = bearer((home / "root.key").read_text(encoding="utf-8").strip())
    requests = [
        pb.CreateChatRequest(title="The first\tone", labels={"team": "blue", "n": "1"}),
        pb.CreateChatRequest(title="t" * 200, labels={"team": "blue"}),
        pb.CreateChatRequest(message=said("!error auth")),
    ]
    with grpc.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        chats = [stub.CreateChat(it, metadata=metadata, timeout=20).chat for it in requests]
        until = pb.SubscribeRequest(chat_id=chats[-1].chat_id, until=pb.SUBSCRIBE_UNTIL_SETTLED)
        for _ in stub.Subscribe(until, metadata=metadata, timeout=20):
            pass
    return chats


def _on_a_terminal(home: Path, *words: str) -> list[str]:
    """Return the lines that a command shows on a terminal of 80 columns."""
    with terminal([*PROGRAM, *words], environment(home, COLUMNS=str(WIDTH))) as seat:
        assert seat.ends() == 0
        shown = _CODES.sub("", seat.shown.decode())
    return shown.replace("\r", "").splitlines()


def test_chats_in_a_pipe_are_one_line_each(home: Path, made: list[chat_pb2.Chat]) -> None:
    """Newest first, with tabs between fields, and no tab or line break in a field."""
    rows = [it.split("\t") for it in chatd(home, "chats").stdout.splitlines()]
    assert [it[0] for it in rows] == [it.chat_id for it in reversed(made)]
    assert [it[1] for it in rows] == ["error", "waiting", "waiting"]
    assert [it[3] for it in rows] == ["-", "t" * 200, "The first one"]
    assert [it[5] for it in rows] == ["-", "team=blue", "n=1 team=blue"]
    assert {it[4] for it in rows} == {"sandbox/echo"}
    assert {len(it) for it in rows} == {7}


def test_tail_and_chats_name_a_status_alike(home: Path, made: list[chat_pb2.Chat]) -> None:
    """As in the contract, in lower case."""
    for chat in made:
        words = ["tail", "--until-settled", chat.chat_id]
        first = chatd(home, *words).stdout.splitlines()[0]
        listed = {it.split("\t")[0]: it for it in chatd(home, "chats").stdout.splitlines()}
        assert first.rpartition(", ")[2] == listed[chat.chat_id].split("\t")[1]


def test_chats_are_found_by_label_and_status(home: Path, made: list[chat_pb2.Chat]) -> None:
    """All labels must be there, and one of the statuses."""
    first, second, failed = (it.chat_id for it in made)

    def found(*words: str) -> list[str]:
        listed = json.loads(chatd(home, "chats", "--json", *words).stdout)
        return [it["chatId"] for it in listed["chats"]]

    assert found("--label", "team=blue") == [second, first]
    assert found("--label", "team=blue", "--label", "n=1") == [first]
    assert found("--label", "team=red") == []
    assert found("--status", "error") == found("--status", "ERROR") == [failed]
    assert found("--status", "error", "--status", "waiting", "--archived") == [
        failed,
        second,
        first,
    ]


def test_a_limit_says_that_there_is_more(home: Path, made: list[chat_pb2.Chat]) -> None:
    """There is no note when the list is complete."""
    newest, *_ = reversed(made)
    one = chatd(home, "chats", "--limit", "1")
    assert one.stdout.startswith(newest.chat_id)
    assert len(one.stdout.splitlines()) == 1
    assert "--limit" in one.stderr
    assert chatd(home, "chats", "--limit", "3").stderr == ""
    for limit, has_more in (("2", True), ("3", False)):
        listed = json.loads(chatd(home, "chats", "--limit", limit, "--json").stdout)
        assert (len(listed["chats"]), listed["has_more"]) == (int(limit), has_more)


@pytest.mark.parametrize(
    "words", [["--label", "team"], ["--label", "=x"], ["--status", "happy"], ["--limit", "0"]]
)
def test_a_filter_that_is_none_is_a_wrong_option(tmp_path: Path, words: list[str]) -> None:
    """The message says what is expected."""
    run = chatd(tmp_path, "chats", *words, CHATD_ADDRESS="127.0.0.1:1")
    assert run.returncode == USAGE
    assert words[0].strip("-") in run.stderr


def test_a_terminal_of_80_columns_shows_every_chat_whole(
    home: Path, made: list[chat_pb2.Chat]
) -> None:
    """Ids are on one line; only titles and similar texts are wrapped."""
    lines = _on_a_terminal(home, "chats")
    assert max(map(len, lines)) <= WIDTH
    starts = [it.partition(" ")[0] for it in lines if not it.startswith(" ")]
    assert starts == ["chat", *(it.chat_id for it in reversed(made))]
    text = "".join(lines).replace(" ", "")
    assert "t" * 200 in text
    assert "n=1team=blue" in text


def test_a_terminal_of_80_columns_shows_every_key_whole(tmp_path: Path) -> None:
    """The id and both times are on one line; a long name is wrapped below."""
    name = "n" * 100
    made = json.loads(chatd(tmp_path, "keys", "create", name, "--json").stdout)
    lines = _on_a_terminal(tmp_path, "keys", "list")
    assert max(map(len, lines)) <= WIDTH
    (line,) = (it for it in lines if it.startswith(made["id"]))
    assert re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d  -$", line)
    assert name in "".join(lines).replace(" ", "")

    piped = chatd(tmp_path, "keys", "list", COLUMNS=str(WIDTH)).stdout
    assert piped == "\t".join([made["id"], made["created"], "-", name, "root"]) + "\n"


def test_settings_on_a_terminal_are_not_boxed(tmp_path: Path) -> None:
    """The name and the value are on one line; the description is below."""
    lines = _on_a_terminal(tmp_path, "config", "show")
    at = next(number for number, it in enumerate(lines) if it.split() == ["port", "7410"])
    assert "default" in lines[at + 1]
    assert "Port to listen on" in lines[at + 1]
    values = [it for it in lines if str(tmp_path) in it]
    assert [it for it in lines if len(it) > WIDTH and it not in values] == []

    piped = [it.split("\t") for it in chatd(tmp_path, "config", "show").stdout.splitlines()]
    assert ["port", "7410", "default", "Port to listen on; 0: a free one."] in piped
