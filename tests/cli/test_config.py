"""Settings: flag, environment, file, default; bad values are reported with their source."""

from pathlib import Path

import pytest

from chatd_server.config.database import DatabaseConfig
from chatd_server.config.load import BadConfig, load
from chatd_server.config.settings import Config


def test_the_nearest_source_wins(tmp_path: Path) -> None:
    """Flag before environment before file before default."""
    (tmp_path / "chatd.toml").write_text("port = 1\nruns_max = 5\npoll_seconds = 2", "utf-8")
    environment = {"CHATD_HOME": str(tmp_path), "CHATD_PORT": "2", "CHATD_RUNS_MAX": "6"}
    loaded = load({"port": 3}, environment)
    config = loaded.config
    assert (config.server.port, config.worker.runs_max, config.worker.poll_seconds) == (3, 6, 2.0)
    assert config.worker.lease_seconds == Config().worker.lease_seconds
    sources = {it.name: it.source for it in loaded.settings}
    assert [sources[it] for it in ("port", "runs_max", "poll_seconds", "lease_seconds")] == [
        "flag",
        "environment",
        "file",
        "default",
    ]


@pytest.mark.parametrize(
    "environment, words",
    [
        ({"CHATD_PORT": "x"}, ["CHATD_PORT", "'x'", "0 to 65535"]),
        ({"CHATD_PORT": "70000"}, ["CHATD_PORT", "70000"]),
        ({"CHATD_LOG_LEVEL": "loud"}, ["loud", "debug, info, warning, error"]),
        ({"CHATD_MIGRATE": "perhaps"}, ["perhaps", "true, false"]),
        ({"CHATD_DEFAULT_MODEL": "echo"}, ["echo", "provider/model"]),
        ({"CHATD_LEASE_SECONDS": "nan"}, ["nan"]),
        ({"CHATD_EVENT_RETENTION_DAYS": "inf"}, ["inf"]),
        ({"CHATD_LEASE_SECONDS": "15"}, ["lease_heartbeat_seconds", "half"]),
        ({"CHATD_DATABASE_URL": "mysql://u:hunter2@h/d"}, ["CHATD_DATABASE_URL", "(hidden)"]),
        ({"CHATD_ANTHROPIC_API_KEY_FILE": "missing"}, ["ANTHROPIC_API_KEY_FILE", "missing"]),
        ({"CHATD_CONFIG": "missing.toml"}, ["missing.toml", "does not exist"]),
    ],
    ids=lambda it: next(iter(it)) if isinstance(it, dict) else "",
)
def test_a_bad_value_is_named_with_its_origin(
    tmp_path: Path, environment: dict[str, str], words: list[str]
) -> None:
    """The setting, its value, its source, and what is allowed; never a secret."""
    with pytest.raises(BadConfig) as caught:
        load({}, {"CHATD_HOME": str(tmp_path), **environment})
    for word in words:
        assert word in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["port = ", "prot = 1", "port = [1]", '"'])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    """Also for an unknown setting, which is a typing mistake."""
    path = tmp_path / "chatd.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(BadConfig, match=r"chatd\.toml"):
        load({}, {"CHATD_HOME": str(tmp_path)})


def test_a_setting_that_nobody_knows_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    """Only chatd reads the file, so an unknown name is an error."""
    (tmp_path / "chatd.toml").write_text("anthropic_apikey = 'sk-1'", "utf-8")
    with pytest.raises(BadConfig, match=r"anthropic_apikey \(did you mean anthropic_api_key\?\)"):
        load({}, {"CHATD_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CHATD_ANTHROPIC_APIKEY", "CHATD_ANTHROPIC_API_KEY"),
        ("CHATD_ANTHROPIC_API_KEYFILE", "CHATD_ANTHROPIC_API_KEY_FILE"),
        ("CHATD_ADDRESSES", "CHATD_ADDRESS"),
        ("CHATD_XYZZY", ""),
    ],
)
def test_a_variable_that_nobody_reads_is_found_with_the_nearest_name(
    tmp_path: Path, name: str, nearest: str
) -> None:
    """Other programs may use the variables, so they are a warning and not an error."""
    loaded = load({}, {"CHATD_HOME": str(tmp_path), name: "sk-1", "OTHER": "x"})
    assert [(it.name, it.nearest) for it in loaded.unknown_variables] == [(name, nearest)]
    assert "sk-1" not in repr(loaded.unknown_variables)


def test_every_variable_that_is_read_is_known(tmp_path: Path) -> None:
    """Variables of settings, of clients, and of secrets in files."""
    secret = tmp_path / "secret"
    secret.write_text("sk-1", "utf-8")
    environment = {
        "CHATD_HOME": str(tmp_path),
        "CHATD_ADDRESS": "h:1",
        "CHATD_KEY": "chatd_x",
        "CHATD_LOG_LEVEL": "debug",
        "CHATD_ANTHROPIC_API_KEY_FILE": str(secret),
    }
    assert load({}, environment).unknown_variables == ()


def test_secrets_are_not_in_the_words_for_a_log() -> None:
    """Settings that are printed by accident show no secret."""
    config = load(
        {"database_url": "postgresql://u:hunter2@h/d", "anthropic_api_key": "sk-1"}, {}
    ).config
    assert "hunter2" not in repr(config)
    assert "sk-1" not in repr(config)
    assert config.shown_database == "postgresql://u:***@h/d"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://me@h:1/d", "postgresql://me@h:1/d"),
        ("postgresql://me:hunter2@h:1/d", "postgresql://me:***@h:1/d"),
        ("postgresql://me:hun@ter2@h/d", "postgresql://me:***@h/d"),
        ("postgresql://me:hunter2@h:1,i:2/d", "postgresql://me:***@h:1,i:2/d"),
        ("postgresql://h/d?a=b&password=hunter2&c=d", "postgresql://h/d?a=b&password=***&c=d"),
        ("postgresql://h/d?sslpassword=hunter2", "postgresql://h/d?sslpassword=***"),
        ("postgresql://me:hunter2@[h/d", "postgresql://***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """In any position, also in a URL that cannot be parsed."""
    assert Config(database=DatabaseConfig(database_url=url)).shown_database == shown
