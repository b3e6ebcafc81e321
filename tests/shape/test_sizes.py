"""A function fits on a screen, and a file has one subject."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.shape.sizes_allowed import ALLOWED
from tests.shape.tree import ROOT, sources

FUNCTION_LINES = 60
FILE_LINES = 400
FOLDERS = ("server", "clients", "scripts")


def test_functions_and_files_are_small() -> None:
    too_large = dict(_too_large())
    unexpected = [
        f"{where}: {lines} lines" for where, lines in too_large.items() if where not in ALLOWED
    ]
    assert not unexpected, f"over {FUNCTION_LINES} (function) or {FILE_LINES} (file) lines"
    assert not ALLOWED.keys() - too_large.keys(), "no longer too large: delete the entry"


def _too_large() -> Iterator[tuple[str, int]]:
    for path in sources(*FOLDERS):
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > FILE_LINES:
            yield name, lines
        if path.suffix == ".py":
            yield from ((f"{name}:{f}", n) for f, n in _functions(text) if n > FUNCTION_LINES)


def _functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, _lines(node) - _docstring_lines(node)


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _lines(function.body[0]) if ast.get_docstring(function) is not None else 0


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_the_bounds_see_what_they_bound(tmp_path: Path) -> None:
    """The counter itself counts: a docstring is free, a body is not."""
    body = "    pass\n" * FUNCTION_LINES
    file = tmp_path / "sample.py"
    file.write_text(f'def f():\n    """Doc."""\n{body}')
    assert list(_functions(file.read_text())) == [("f", FUNCTION_LINES + 1)]
