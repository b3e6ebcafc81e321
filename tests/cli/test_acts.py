"""`chatd queue`, `edit`, `retry`, `fork` and `chats ...`: all but talking."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import chat_service_pb2_grpc, tool_pb2
from tests.cli.programs import PROGRAM, Serving, chatd, environment, serving
from tests.cli.terminals import CTRL_D, PROMPT, terminal
from tests.kit.server import bearer, said

FAILED, USAGE = 1, 2
BUSY = '!call sandbox_wait {"seconds": 600}'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of the server."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module", autouse=True)
def server(home: Path) -> Iterator[Serving]:
    """Start a server, and name it in the settings of its home."""
    with serving(home) as server:
        (home / "chatd.toml").write_text(f"port = {server.port}\n", encoding="utf-8")
        yield server


@pytest.fixture
def call(home: Path, server: Serving) -> Iterator[Any]:
    """Return a function that calls an RPC."""
    metadata = bearer((home / "root.key").read_text(encoding="utf-8").strip())
    with grpc.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        yield lambda method, request: getattr(stub, method)(request, metadata=metadata, timeout=20)


def busy(call: Any) -> tuple[str, list[str]]:
    """Return a chat whose turn does not end, and the ids of the messages a, b, c in its queue."""
    chat_id = call("CreateChat", pb.CreateChatRequest(message=said(BUSY))).chat.chat_id
    ids = []
    for text in "abc":
        request = pb.SendMessageRequest(chat_id=chat_id, message=said(f"!say {text}"))
        ids.append(call("SendMessage", request).queued_message.message_id)
    return chat_id, ids


def told(home: Path, *words: str) -> Any:
    """Return the JSON that a command prints."""
    run = chatd(home, *words, "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def answered(home: Path, text: str) -> tuple[str, str]:
    """Make a chat with an answer; return its id and that of its message."""
    run = chatd(home, "send", text, "--json")
    first = json.loads(run.stdout.splitlines()[1])["event"]["messageCommitted"]["message"]
    return first["chatId"], first["messageId"]


def test_the_queue_is_listed_and_changed(home: Path, call: Any) -> None:
    """For pipes with tabs, for programs as JSON with the names of the contract."""
    chat_id, (first, second, third) = busy(call)
    rows = [it.split("\t") for it in chatd(home, "queue", "list", chat_id).stdout.splitlines()]
    assert [(it[0], it[2]) for it in rows] == [
        (first, "!say a"),
        (second, "!say b"),
        (third, "!say c"),
    ]
    done = chatd(home, "queue", "reorder", chat_id, third, first, second)
    assert done.stdout == "3 queued, the chat is running\n"
    assert told(home, "queue", "delete", chat_id, first)["chat"]["queuedMessageCount"] == 2
    listed = told(home, "queue", "list", chat_id)["queuedMessages"]
    assert [it["messageId"] for it in listed] == [third, second]
    promoted = told(home, "queue", "promote", chat_id, second)["chat"]
    assert promoted["status"] == "CHAT_STATUS_INTERRUPTING"


def test_an_edit_prints_the_answer(home: Path) -> None:
    """In a pipe only the new answer; as JSON every event from the truncation on."""
    chat_id, message_id = answered(home, "!say old")
    run = chatd(home, "edit", chat_id, message_id, "!say new")
    assert (run.returncode, run.stdout) == (0, "new\n")
    assert "an edit has removed the messages from position 1 on" in run.stderr
    again = chatd(home, "edit", chat_id, message_id, "!say new")
    assert again.returncode == FAILED
    assert message_id in again.stderr


def test_a_retry_prints_the_answer_or_why_there_is_none(home: Path) -> None:
    """Code 1 when the turn fails again."""
    chat_id = json.loads(chatd(home, "send", "!error auth 9", "--no-wait", "--json").stdout)[
        "chat"
    ]["chatId"]
    chatd(home, "tail", chat_id, "--until-settled")
    run = chatd(home, "retry", chat_id)
    assert (run.returncode, run.stdout) == (FAILED, "")
    assert "✗" in run.stderr
    assert chatd(home, "retry", chat_id, "--no-wait").stdout == f"{chat_id}\n"


def test_a_fork_prints_the_new_chat(home: Path) -> None:
    """With the history up to the message that is named."""
    chat_id, message_id = answered(home, "!say hello")
    fork = chatd(home, "fork", chat_id).stdout.strip()
    assert "hello" in chatd(home, "tail", fork, "--until-settled").stdout
    words = ["--message", message_id, "--title", "t", "--label", "a=1"]
    chat = told(home, "fork", chat_id, *words)["chat"]
    assert (chat["title"], chat["labels"]) == ("t", {"a": "1"})
    assert chat["forkedFrom"] == {"chatId": chat_id, "messageId": message_id}


def test_a_chat_is_named_labelled_archived_and_deleted(home: Path) -> None:
    """Each says what it did, and as JSON what the chat is."""
    chat_id, _ = answered(home, "!say hello")
    assert told(home, "chats", "title", chat_id, "A name")["chat"]["title"] == "A name"
    written = told(home, "chats", "title", chat_id, "--regenerate")["chat"]
    assert written["title"] == "About !say hello"
    for words in (("A name", "--regenerate"), ()):
        assert chatd(home, "chats", "title", chat_id, *words).returncode == USAGE
    assert chatd(home, "chats", "label", chat_id, "a=1", "b=2").stdout.endswith("a=1 b=2\n")
    labels = told(home, "chats", "label", chat_id, "c=3", "--remove", "a")["chat"]["labels"]
    assert labels == {"b": "2", "c": "3"}
    assert chatd(home, "chats", "archive", chat_id).stdout == "archived\n"
    refused = chatd(home, "send", "hello", "--chat", chat_id)
    assert (refused.returncode, "unarchive" in refused.stderr) == (FAILED, True)
    assert not told(home, "chats", "unarchive", chat_id)["chat"].get("archived")
    deleted = {"chatId": chat_id, "deleted": True, "chatCount": 1}
    assert told(home, "chats", "delete", chat_id) == deleted
    assert chatd(home, "chats", "delete", chat_id).returncode == FAILED


def test_a_family_is_listed_archived_and_deleted_together(home: Path, call: Any) -> None:
    """The words say how many chats it was, and as JSON the number."""
    parent = call("CreateChat", pb.CreateChatRequest(title="parent")).chat.chat_id
    child = call("CreateChat", pb.CreateChatRequest(parent_chat_id=parent)).chat.chat_id
    listed = told(home, "chats", "--parent", parent)["chats"]
    assert [it["chatId"] for it in listed] == [child]
    assert child not in chatd(home, "chats", "--limit", "200").stdout
    archived = chatd(home, "chats", "archive", parent)
    assert archived.stdout == "archived: 2 chats with its children\n"
    assert told(home, "chats", "unarchive", parent)["chatCount"] == 2
    deleted = chatd(home, "chats", "delete", parent)
    assert deleted.stdout == f"deleted {parent}: 2 chats with its children\n"


def test_options_of_the_list_are_no_options_of_its_commands(home: Path) -> None:
    """One that had no effect could act on another server than the user means."""
    run = chatd(home, "chats", "--address", "127.0.0.1:1", "archive", "x")
    assert (run.returncode, "behind archive" in run.stderr) == (USAGE, True)
    assert chatd(home, "chats", "label", "x").returncode == USAGE


def test_a_conversation_edits_and_retries(home: Path) -> None:
    """At the prompt; a slash that begins no command is told what does."""
    chat_id, _ = answered(home, "!say old")
    with terminal([*PROGRAM, "chat", chat_id], environment(home)) as seat:
        seat.until(PROMPT)
        seat.types(b"/again\n")
        seat.until("/again is not possible")
        seat.until(PROMPT)
        seat.types(b"/retry\n")
        seat.until("not possible while the chat is waiting")
        seat.until(PROMPT)
        seat.types(b"/edit !error auth\n")
        seat.until("an edit has removed")
        seat.until("✗")
        seat.until(PROMPT)
        seat.types(b"/retry\n")
        seat.until("✗")
        seat.until(PROMPT)
        seat.types(b"/edit !say new words\n")
        seat.until("new words")
        seat.until(PROMPT)
        seat.types(b" /queue\n")
        seat.until("sandbox")
        seat.until(PROMPT)
        seat.types(CTRL_D)
        assert seat.ends() == 0


def test_a_conversation_shows_and_changes_the_queue(home: Path, call: Any) -> None:
    """By the numbers of the list; a promoted message is answered at once."""
    tool = tool_pb2.ToolDefinition(name="look")
    request = pb.CreateChatRequest(tools=[tool], message=said("!call look {}"))
    chat_id = call("CreateChat", request).chat.chat_id
    for text in "abc":
        message = said(f"!say {text * 5}")
        call("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=message))
    with terminal([*PROGRAM, "chat", chat_id], environment(home)) as seat:
        seat.until(PROMPT)
        seat.types(b"/queue\n")
        seat.until("1  !say aaaaa")
        seat.until("3  !say ccccc")
        seat.until(PROMPT)
        seat.types(b"/queue delete 1\n")
        seat.until("out of the queue")
        seat.until(PROMPT)
        seat.types(b"/queue promote 3\n")
        seat.until("by its number")
        seat.until(PROMPT)
        seat.types(b"/queue promote 2\n")
        seat.until("ccccc")
        seat.until("bbbbb")
        seat.until(PROMPT)
        seat.types(CTRL_D)
        assert seat.ends() == 0


def test_a_watch_prints_what_has_happened_since_a_cursor(home: Path, call: Any) -> None:
    """For people a line for each event; titles cannot control the terminal."""
    cursor = told(home, "watch", "--once")["cursor"]
    chat_id = call("CreateChat", pb.CreateChatRequest(title="a\x1b[2Jb")).chat.chat_id
    call("DeleteChat", pb.DeleteChatRequest(chat_id=chat_id))

    run = chatd(home, "watch", "--once", "--cursor", cursor)

    assert run.returncode == 0, run.stderr
    lines = [line.split("  ")[1:] for line in run.stdout.splitlines()]
    assert [line for line in lines if line[0] == chat_id] == [
        [chat_id, "title: a [2Jb, model: sandbox/echo"],
        [chat_id, "waiting"],
        [chat_id, "deleted"],
    ]
