"""The other commands: migrate, keys, health, version, config show."""

import json
import socket
import stat
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import chat_service_pb2_grpc
from chatd_server.cli.operate import HEALTH_SECONDS_MAX
from chatd_server.config.load import server_version
from chatd_server.rpc.edge.auth import KEY_CACHE_SECONDS
from tests.cli.programs import WORDS_OF_GRPC, chatd, serving
from tests.kit.server import bearer

FAILED = 1
USAGE = 2
DATABASE = 3


def test_version_says_a_number() -> None:
    """For people and for machines."""
    home = Path("unused")
    for words in ("version", "--version"):
        run = chatd(home, words)
        assert (run.returncode, run.stdout) == (0, f"chatd {server_version()}\n")
    assert json.loads(chatd(home, "version", "--json").stdout) == {"version": server_version()}


def test_help_names_every_command(tmp_path: Path) -> None:
    """Also those that talk to a server."""
    text = chatd(tmp_path, "--help").stdout
    for command in (
        "serve",
        "migrate",
        "chat",
        "tail",
        "send",
        "interrupt",
        "compact",
        "clear",
        "edit",
        "retry",
        "fork",
        "queue",
        "chats",
        "keys",
        "health",
        "version",
        "config",
    ):
        assert command in text


def test_migrating_twice_is_migrating_once(tmp_path: Path) -> None:
    """The second run says that there is nothing to do."""
    first = json.loads(chatd(tmp_path, "migrate", "--json").stdout)
    assert first["before"] is None
    assert first["changed"]
    second = chatd(tmp_path, "migrate")
    assert second.returncode == 0
    assert "already" in second.stdout


def test_keys_are_made_listed_and_revoked_beside_a_running_server(tmp_path: Path) -> None:
    """The server knows a new key at once, and refuses a revoked one within seconds."""
    with serving(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        made = json.loads(
            chatd(tmp_path, "keys", "create", "laptop", "--owner", "ann", "--json").stdout
        )
        stub.ListChats(pb.ListChatsRequest(), metadata=bearer(made["key"]), timeout=20)

        listed = json.loads(chatd(tmp_path, "keys", "list", "--json").stdout)
        assert {it["name"].partition(" ")[0] for it in listed} == {"root", "laptop"}
        assert made["key"] not in json.dumps(listed)
        assert "laptop" in chatd(tmp_path, "keys", "list").stdout

        assert chatd(tmp_path, "keys", "revoke", made["id"]).returncode == 0
        again = chatd(tmp_path, "keys", "revoke", made["id"])
        assert again.returncode == FAILED
        assert "keys list" in again.stderr
        assert server.stop() == 0
    # The cache ended with the old process: no wait for KEY_CACHE_SECONDS.
    assert KEY_CACHE_SECONDS <= 5
    with serving(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListChats(pb.ListChatsRequest(), metadata=bearer(made["key"]), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_narrow_terminal_cuts_nothing(tmp_path: Path) -> None:
    """Ids are copied and paths are read: lines may be long, but nothing is cut."""
    name, home = "n" * 60, tmp_path / ("h" * 60)
    made = json.loads(chatd(home, "keys", "create", name, "--json").stdout)
    listed = chatd(home, "keys", "list", COLUMNS="80").stdout
    assert made["id"] in listed
    assert "…" not in listed
    shown = chatd(home, "config", "show", COLUMNS="80").stdout
    assert "…" not in shown


def test_a_key_may_be_made_before_the_first_start(tmp_path: Path) -> None:
    """Installers do this; the key is the only output, for scripts."""
    run = chatd(tmp_path / "new", "keys", "create", "bot")
    assert run.returncode == 0
    assert run.stdout.startswith("chatd_")
    assert len(run.stdout.split()) == 1


def test_who_makes_a_key_learns_how_to_revoke_it(tmp_path: Path) -> None:
    """The command with its id is on standard error."""
    run = chatd(tmp_path, "keys", "create", "bot")
    (made,) = json.loads(chatd(tmp_path, "keys", "list", "--json").stdout)
    assert f"chatd keys revoke {made['id']}" in run.stderr


@pytest.mark.parametrize("owner", ["root", "ann"])
def test_who_makes_a_key_learns_whose_chats_it_sees(tmp_path: Path, owner: str) -> None:
    """Also without --owner: the key of a bot then accesses the chats of the root key."""
    words = [] if owner == "root" else ["--owner", owner]
    run = chatd(tmp_path, "keys", "create", "bot", *words)
    assert f"the owner {owner}" in run.stderr
    assert ("as the root key" in run.stderr) == (owner == "root")
    assert "--owner" in run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("keys", "revoke", "x"),
        ("keys", "list", "--database-url", "sqlite:///{home}/a/b.db"),
        ("config", "show"),
        ("health",),
        ("tail", "01890000-0000-7000-8000-000000000000", "--retry-seconds", "0"),
        ("version",),
    ],
    ids=" ".join,
)
def test_a_command_that_only_reads_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """No home and no database, not even in a home that exists."""
    for home in (tmp_path / "absent", tmp_path / "empty"):
        if home.name == "empty":
            home.mkdir()
        before = sorted(tmp_path.rglob("*"))
        filled = [it.format(home=home) for it in words]
        run = chatd(home, *filled, CHATD_ADDRESS="127.0.0.1:1")
        assert "Traceback" not in run.stderr
        assert sorted(tmp_path.rglob("*")) == before
        if words[0] == "keys":
            assert run.returncode == DATABASE
            where = home / "a" / "b.db" if "--database-url" in words else home / "chatd.db"
            assert f"there is no database {where}" in run.stderr
            assert "chatd serve" in run.stderr


def test_a_root_key_is_not_revoked_by_the_way(tmp_path: Path) -> None:
    """The commands of its home use it: the refusal says so, and --force revokes it."""
    with serving(tmp_path) as server:
        (root,) = json.loads(chatd(tmp_path, "keys", "list", "--json").stdout)
        refused = chatd(tmp_path, "keys", "revoke", root["id"])
        assert refused.returncode == FAILED
        assert root["name"] in refused.stderr
        assert "--force" in refused.stderr
        (still,) = json.loads(chatd(tmp_path, "keys", "list", "--json").stdout)
        assert still["revoked"] is None

        forced = chatd(tmp_path, "keys", "revoke", root["id"], "--force")
        assert forced.returncode == 0
        assert "root.key" in forced.stdout
        again = chatd(tmp_path, "keys", "revoke", root["id"])
        assert (again.returncode, "no active key" in again.stderr) == (FAILED, True)
        assert server.stop() == 0


def test_an_owner_without_a_name_is_refused(tmp_path: Path) -> None:
    """An owner without a name is nobody."""
    assert chatd(tmp_path, "keys", "create", "x", "--owner", "").returncode == USAGE


@pytest.mark.parametrize("name", ["", "n" * 129, "a\nb"], ids=["none", "a long one", "two lines"])
def test_a_name_of_a_key_is_one_that_a_list_can_show(tmp_path: Path, name: str) -> None:
    """A key to revoke is found by its name."""
    run = chatd(tmp_path, "keys", "create", name)
    assert run.returncode == USAGE
    assert "a name must have 1 to 128" in run.stderr


def test_health_of_a_server_and_of_none(tmp_path: Path) -> None:
    """Exit codes are for probes, messages for people."""
    with serving(tmp_path) as server:
        well = chatd(tmp_path, "health", "--address", server.address)
        assert (well.returncode, well.stdout) == (0, f"{server.address} is serving\n")
        for named in ({"CHATD_PORT": server.port}, {"CHATD_ADDRESS": server.address}):
            assert chatd(tmp_path, "health", **named).returncode == 0
        unknown = chatd(tmp_path, "health", "--address", server.address, "--service", "x.Y")
        assert unknown.returncode == FAILED
        assert "no service 'x.Y'" in unknown.stderr
        address = server.address
    gone = chatd(tmp_path, "health", "--address", address, "--json")
    assert gone.returncode == FAILED
    assert json.loads(gone.stdout)["status"] == "UNREACHABLE"
    assert not any(words in json.loads(gone.stdout)["detail"] for words in WORDS_OF_GRPC)


def test_health_says_what_kept_it_from_an_answer(tmp_path: Path) -> None:
    """A refused connection is not a timeout: the command did not wait."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        silent = other.getsockname()[1]
        run = chatd(tmp_path, "health", "--address", f"127.0.0.1:{silent}")
        assert f"no answer within {HEALTH_SECONDS_MAX:g} s" in run.stderr
    refused = chatd(tmp_path, "health", "--address", f"127.0.0.1:{silent}")
    assert "refused the connection" in refused.stderr
    assert refused.returncode == FAILED
    assert "within" not in refused.stderr
    assert not any(words in refused.stderr for words in WORDS_OF_GRPC)


def test_settings_are_shown_with_their_origin_and_without_secrets(tmp_path: Path) -> None:
    """Flag before environment before file before default; a secret is shown as set."""
    secret = tmp_path / "secret"
    secret.write_text("sk-very-secret\n", encoding="utf-8")
    (tmp_path / "chatd.toml").write_text('port = 1\nlog_level = "error"\n', encoding="utf-8")
    run = chatd(
        tmp_path,
        "config",
        "show",
        "--json",
        "--database-url",
        "postgresql://me:hunter2@db/x",
        CHATD_PORT="2",
        CHATD_ANTHROPIC_API_KEY_FILE=str(secret),
    )
    shown = json.loads(run.stdout)
    assert shown["port"] == {"value": 2, "source": "environment", "origin": "CHATD_PORT"}
    assert shown["log_level"]["source"] == "file"
    assert shown["runs_max"]["source"] == "default"
    assert shown["database_url"]["origin"] == "--database-url"
    assert shown["anthropic_api_key"]["value"] == "(set)"
    assert "hunter2" not in run.stdout
    assert "very-secret" not in run.stdout
    table = chatd(tmp_path, "config", "show").stdout
    assert "Port to listen on" in table


def test_the_home_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Other users of the machine cannot read the chats."""
    home = tmp_path / "home"
    with serving(home) as server:
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert server.stop() == 0
