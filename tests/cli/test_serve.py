"""`chatd serve` as a process: its output, how it stops, and why it does not start."""

import json
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from socket import gethostname
from uuid import uuid4

import grpc
import pytest

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import chat_service_pb2_grpc
from tests.cli.programs import chatd, serving
from tests.kit.postgres import Postgres, PostgresUnavailableError
from tests.kit.server import bearer, said

ADDRESS, DATABASE, USAGE, FAILED = 4, 3, 2, 1


def test_a_first_start_needs_nothing_and_says_where_everything_is(tmp_path: Path) -> None:
    """One line with the address, the database and the key's file; a message is answered."""
    home = tmp_path / "new" / "home"
    with serving(home) as server:
        assert Path(server.facts["root_key_file"]) == home / "root.key"
        assert Path(server.facts["database"]) == home / "chatd.db"
        key = (home / "root.key").read_text(encoding="utf-8").strip()
        with grpc.insecure_channel(server.address) as channel:
            stub = chat_service_pb2_grpc.ChatServiceStub(channel)
            created = stub.CreateChat(
                pb.CreateChatRequest(message=said("hello")), metadata=bearer(key), timeout=20
            )
            until = pb.SUBSCRIBE_UNTIL_SETTLED
            follow = pb.SubscribeRequest(chat_id=created.chat.chat_id, until=until)
            for _ in stub.Subscribe(follow, metadata=bearer(key), timeout=20):
                pass
            listed = stub.ListMessages(
                pb.ListMessagesRequest(chat_id=created.chat.chat_id), metadata=bearer(key)
            )
            assert len(listed.messages) == 2
        assert server.stop() == 0


def test_two_servers_do_not_share_a_port_unasked(tmp_path: Path) -> None:
    """The kernel would spread connections over both, which is only wanted with --reuse-port."""
    with serving(tmp_path / "a", "--reuse-port") as first:
        home = tmp_path / "b"
        unasked = chatd(home, "serve", "--port", first.port)
        assert unasked.returncode == ADDRESS
        with serving(home, "--reuse-port", "--port", first.port) as second:
            assert second.port == first.port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_leave_in_order(tmp_path: Path, number: int) -> None:
    """Exit code 0, and the log has the start and the stop."""
    with serving(tmp_path) as server:
        assert server.stop(number) == 0
        events = [json.loads(line)["event"] for line in server.logged()]
        expected = ["root_key.registered", "server.started", "server.draining", "server.stopped"]
        assert events == expected


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """A turn that takes an hour holds the drain; the second SIGTERM ends it at once."""
    with serving(tmp_path, "--drain-seconds", "3600") as server:
        key = (tmp_path / "root.key").read_text(encoding="utf-8").strip()
        with grpc.insecure_channel(server.address) as channel:
            stub = chat_service_pb2_grpc.ChatServiceStub(channel)
            created = stub.CreateChat(
                pb.CreateChatRequest(message=said("!say a\n!stall 3000")), metadata=bearer(key)
            )
            follow = pb.SubscribeRequest(chat_id=created.chat.chat_id)
            events = stub.Subscribe(follow, metadata=bearer(key), timeout=20)
            while next(events).event.WhichOneof("event") != "message_part":
                pass
            server.process.send_signal(signal.SIGTERM)
            while next(events).event.WhichOneof("event") != "stream_end":
                pass
            assert server.process.poll() is None
            assert server.stop(signal.SIGTERM) == 0
    with serving(tmp_path) as again, closing(sqlite3.connect(tmp_path / "chatd.db")) as rows:
        assert rows.execute("SELECT count(*) FROM chats WHERE status = 'error'").fetchone() == (0,)
        assert again.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_port_in_use_says_which_and_what_to_do(tmp_path: Path) -> None:
    """Also when the other program is not chatd."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        run = chatd(tmp_path, "serve", "--port", str(port))
        assert run.returncode == ADDRESS
        assert f"127.0.0.1:{port}" in run.stderr
        assert "--port" in run.stderr
        assert "Traceback" not in run.stderr
        assert ".cc:" not in run.stderr, "words of grpc's own log"
        loud = chatd(tmp_path, "serve", "--port", str(port), GRPC_VERBOSITY="error")
        assert "add_port.cc:" in loud.stderr, "grpc's log is there if it is asked for"


def test_a_second_server_on_the_same_file_says_who_holds_it(tmp_path: Path) -> None:
    """The message names the process that holds it, which goes on."""
    with serving(tmp_path) as first:
        run = chatd(tmp_path, "serve", "--port", "0")
        assert run.returncode == DATABASE
        assert str(first.process.pid) in run.stderr
        assert "Traceback" not in run.stderr
        assert chatd(tmp_path, "health", "--address", first.address).returncode == 0


def test_a_database_of_a_newer_chatd_is_left_alone(tmp_path: Path) -> None:
    """It is never migrated back; the message says to update."""
    assert chatd(tmp_path, "migrate").returncode == 0
    with closing(sqlite3.connect(tmp_path / "chatd.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    for command in (["serve", "--port", "0"], ["migrate"], ["keys", "list"]):
        run = chatd(tmp_path, *command)
        assert run.returncode == DATABASE
        assert "9999" in run.stderr
        assert "update chatd" in run.stderr


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    """The path is wrong; the file is not changed."""
    wrong = tmp_path / "notes.txt"
    wrong.write_text("these are my notes, and not a database at all\n" * 40, encoding="utf-8")
    before = wrong.read_bytes()
    run = chatd(tmp_path, "serve", "--port", "0", "--database-url", f"sqlite:///{wrong}")
    assert run.returncode == DATABASE
    assert "Traceback" not in run.stderr
    assert wrong.read_bytes() == before


def test_a_database_that_is_gone_is_said_without_its_password(tmp_path: Path) -> None:
    """PostgreSQL is not there: the message says what was tried, without secrets."""
    url = "postgresql://me:hunter2@127.0.0.1:1/none"
    for command in ("serve", "migrate"):
        run = chatd(tmp_path, command, CHATD_DATABASE_URL=url)
        assert run.returncode == DATABASE
        assert "postgresql://me:***@127.0.0.1:1/none" in run.stderr
        assert "database_url" in run.stderr
        assert "hunter2" not in run.stderr + run.stdout
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize("rest", ["[h/d", "h:x/d", "h/d?sslmode=loud"])
def test_a_database_url_that_is_none_is_said_without_its_password(
    tmp_path: Path, rest: str
) -> None:
    """A mistake in the URL is a wrong setting, and the URL is not printed."""
    run = chatd(tmp_path, "migrate", CHATD_DATABASE_URL=f"postgresql://me:hunter2@{rest}")
    assert run.returncode == USAGE
    assert "database_url" in run.stderr
    assert "hunter2" not in run.stderr + run.stdout
    assert "Traceback" not in run.stderr


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """There is a file instead of a folder."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    run = chatd(tmp_path / "file" / "home", "serve", "--port", "0")
    assert run.returncode == USAGE
    assert str(tmp_path / "file") in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n"], ids=["empty", "no text"])
def test_a_root_key_that_is_none_is_said(tmp_path: Path, content: bytes) -> None:
    """An empty file would refuse every command without a reason."""
    (tmp_path / "root.key").write_bytes(content)
    run = chatd(tmp_path, "serve", "--port", "0")
    assert run.returncode == USAGE
    assert "root.key" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_bad_setting_says_where_it_came_from(tmp_path: Path) -> None:
    """The variable, its value, what is allowed; nothing is written."""
    home = tmp_path / "home"
    run = chatd(home, "serve", CHATD_PORT="seventy")
    assert run.returncode == USAGE
    for word in ("CHATD_PORT", "seventy", "65535"):
        assert word in run.stderr
    assert not home.exists()


def test_a_variable_that_nobody_reads_is_said_once_at_start(tmp_path: Path) -> None:
    """With the probable name, and never with its value, which may be a secret."""
    with serving(tmp_path, CHATD_ANTHROPIC_APIKEY="sk-secret") as server:
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.logged()]
    told = [it for it in lines if it["event"] == "settings.unknown_variable"]
    assert [(it["level"], it["name"]) for it in told] == [("warning", "CHATD_ANTHROPIC_APIKEY")]
    assert "CHATD_ANTHROPIC_API_KEY?" in told[0]["advice"]
    assert "sk-secret" not in json.dumps(lines)


def test_a_revoked_root_key_is_said_at_start(tmp_path: Path) -> None:
    """In the log and in the first line, with what to do; the advice gives a key that works."""
    with serving(tmp_path) as server:
        assert server.facts["root_key_is_revoked"] is False
        (root,) = json.loads(chatd(tmp_path, "keys", "list", "--json").stdout)
        assert chatd(tmp_path, "keys", "revoke", "--force", root["id"]).returncode == 0
        assert server.stop() == 0
    with serving(tmp_path) as server:
        assert server.facts["root_key_is_revoked"] is True
        refused = chatd(tmp_path, "send", "hello", "--address", server.address)
        assert refused.returncode == FAILED
        for words in ("root.key", "revoked", "start", server.address):
            assert words in refused.stderr
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.logged()]
    told = [it for it in lines if it["event"] == "root_key.revoked"]
    assert [it["level"] for it in told] == ["warning"]
    assert str(tmp_path / "root.key") in told[0]["advice"]
    (tmp_path / "root.key").unlink()
    with serving(tmp_path) as server:
        assert server.facts["root_key_is_revoked"] is False
        sent = chatd(tmp_path, "send", "!say Hello.", "--address", server.address)
        assert (sent.returncode, sent.stdout) == (0, "Hello.\n")


def test_homes_that_share_a_database_have_root_keys_of_their_own(
    tmp_path: Path, postgres_url: str
) -> None:
    """The list of keys names the home of each, and the log of a first start has it."""
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        with serving(home, "--migrate", CHATD_DATABASE_URL=postgres_url) as server:
            assert server.stop() == 0
            lines = [json.loads(line) for line in server.logged()]
            told = [it for it in lines if it["event"] == "root_key.registered"]
            assert [it["name"] for it in told] == [f"root of {gethostname()}:{home}"]
        with serving(home, CHATD_DATABASE_URL=postgres_url) as server:
            assert server.stop() == 0
            assert not any("root_key" in line for line in server.logged())
    run = chatd(homes[0], "keys", "list", "--json", CHATD_DATABASE_URL=postgres_url)
    names = {it["name"] for it in json.loads(run.stdout)}
    assert names == {f"root of {gethostname()}:{home}" for home in homes}


def test_an_unknown_default_model_is_said_at_start(tmp_path: Path) -> None:
    """At the start and not with the first message."""
    run = chatd(tmp_path, "serve", "--port", "0", "--default-model", "nobody/none")
    assert run.returncode == USAGE
    assert "default_model = 'nobody/none', from --default-model" in run.stderr
    assert "sandbox/echo" in run.stderr


def test_postgres_is_migrated_on_purpose_and_serves(tmp_path: Path, postgres_url: str) -> None:
    """`serve` names the command; after it, keys and servers work."""
    settings = {"CHATD_DATABASE_URL": postgres_url}
    old = chatd(tmp_path, "serve", "--port", "0", **settings)
    assert old.returncode == DATABASE
    assert "chatd migrate" in old.stderr
    assert chatd(tmp_path, "migrate", **settings).returncode == 0
    assert chatd(tmp_path, "keys", "create", "bot", **settings).stdout.startswith("chatd_")
    with serving(tmp_path, **settings) as first, serving(tmp_path, **settings) as second:
        for server in (first, second):
            assert chatd(tmp_path, "health", "--address", server.address).returncode == 0
        assert [first.stop(), second.stop()] == [0, 0]


def test_a_database_user_without_the_right_is_said(
    tmp_path: Path, postgres: Postgres | PostgresUnavailableError, postgres_url: str
) -> None:
    """The user has no rights on the database: a message and no traceback."""
    assert isinstance(postgres, Postgres)
    weak = f"weak_{uuid4().hex}"
    postgres.run(f"CREATE ROLE {weak} LOGIN")
    name = postgres_url.rpartition("/")[2]
    postgres.run(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    try:
        for command in ("serve", "migrate"):
            url = postgres_url.replace("//chatd@", f"//{weak}@")
            run = chatd(tmp_path, command, CHATD_DATABASE_URL=url)
            assert run.returncode == DATABASE
            assert "permission denied" in run.stderr
            assert "Traceback" not in run.stderr
    finally:
        postgres.run(f"DROP ROLE {weak}")


def test_postgres_may_be_migrated_by_the_start(tmp_path: Path, postgres_url: str) -> None:
    """For a deployment without a separate step."""
    with serving(tmp_path, "--migrate", CHATD_DATABASE_URL=postgres_url) as server:
        assert server.stop() == 0
