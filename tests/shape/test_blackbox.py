"""The outside client stays outside: it knows the contract, and starts PostgreSQL, nothing else."""

import ast
from collections.abc import Iterator

import pytest

from tests.shape.tree import ROOT, sources

OURS = ("chatd", "chatd_client", "chatd_server", "bench", "tests")
ALLOWED = ("chatd.v1", "tests.blackbox", "tests.kit.postgres")
LINES_MAX = 400


def test_blackbox_imports_nothing_of_ours_but_the_contract() -> None:
    """What it expects comes from the contract and the docs, not from the code under test."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("tests/blackbox")
        for name in foreign_imports(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def test_blackbox_files_are_small() -> None:
    """Somebody who writes a client reads them."""
    files = {path: path.read_text().count("\n") for path in sources("tests/blackbox")}
    assert files
    assert not [path.name for path, lines in files.items() if lines > LINES_MAX]


def foreign_imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of ours that an outside client may not know."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            ours = name.partition(".")[0] in OURS
            if ours and not name.startswith(tuple(f"{allowed}." for allowed in ALLOWED)):
                yield name


@pytest.mark.parametrize(
    "code",
    [
        "import chatd_server.hub",
        "from chatd_client import Client",
        "from tests.kit import fold",
        "from tests.kit.fold import fold",
    ],
)
def test_the_search_finds_what_is_not_outside(code: str) -> None:
    """The search itself can fail."""
    assert list(foreign_imports(ast.parse(code)))


def test_the_search_allows_the_contract() -> None:
    """Generated stubs, the folder itself, and PostgreSQL."""
    code = "from chatd.v1 import chat_pb2\nfrom tests.kit.postgres import running_postgres"
    assert not list(foreign_imports(ast.parse(code)))
