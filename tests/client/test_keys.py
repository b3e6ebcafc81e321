"""Which key a client uses: the given key, and never another one instead."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chatd_client import Client, Endpoint, PermissionDenied, SyncClient, find_endpoint

NOWHERE = "127.0.0.1:1"
NO_KEYS = [
    *(" ", "sk-secret", "chatd_", "chatd_x y", "chatd_\u00e4", "chatd_a\nb", " chatd_x", "Chatd_x")
]


@pytest.fixture(autouse=True)
def _a_home_with_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CHATD_KEY", raising=False)
    monkeypatch.setenv("CHATD_HOME", str(tmp_path))
    (tmp_path / "root.key").write_text("chatd_root\n", encoding="utf-8")


@pytest.mark.parametrize("make", [Client, SyncClient, find_endpoint])
def test_an_empty_key_is_refused_and_is_not_the_root_key(make: Callable[..., object]) -> None:
    """A program without its secret must not get the rights of the operator."""
    with pytest.raises(PermissionDenied, match="the key given by the argument `key` is empty"):
        make(NOWHERE, "")


def test_an_empty_variable_is_refused_and_is_not_the_root_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names the variable. A key in the argument comes first."""
    monkeypatch.setenv("CHATD_KEY", "")
    with pytest.raises(PermissionDenied, match="the key given by CHATD_KEY is empty"):
        find_endpoint(NOWHERE)
    assert find_endpoint(NOWHERE, "chatd_given").key == "chatd_given"


def test_a_key_that_was_not_given_is_that_of_the_home() -> None:
    """The home is used only if no key is given."""
    assert find_endpoint(NOWHERE, None).key == "chatd_root"


@pytest.mark.parametrize("key", NO_KEYS)
def test_a_key_of_another_shape_is_refused_by_the_constructor(key: str) -> None:
    """Before grpc or a server refuses it with an unclear message."""
    makers: list[Callable[[], object]] = [
        lambda: Client(NOWHERE, key),
        lambda: SyncClient(NOWHERE, key),
        lambda: Endpoint(NOWHERE, key),
    ]
    for make in makers:
        with pytest.raises(PermissionDenied, match="not a chatd API key: keys begin with chatd_"):
            make()


@pytest.mark.parametrize("key", NO_KEYS)
def test_a_variable_of_another_shape_is_named(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """The key itself is not shown: it may be another secret."""
    monkeypatch.setenv("CHATD_KEY", key)
    with pytest.raises(PermissionDenied, match="the value of CHATD_KEY is not a chatd") as refused:
        find_endpoint(NOWHERE)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "sk-other\n"])
def test_a_root_key_of_another_shape_is_refused_with_its_file(tmp_path: Path, content: str) -> None:
    """An empty file has no key either."""
    (tmp_path / "root.key").write_text(content, encoding="utf-8")
    with pytest.raises(PermissionDenied, match=r"root\.key does not hold a chatd API key"):
        find_endpoint(NOWHERE)
