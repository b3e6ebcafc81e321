"""No clock outside the clock: a test that holds it holds every wait and every time stamp."""

import ast
from collections.abc import Iterator

import pytest

from tests.shape.tree import ROOT, sources

# The clock of the server, and the client's own.
CLOCKS = {"server/chatd_server/clock.py", "clients/python/chatd_client/clock.py"}
MODULES = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "sleep",
    },
    "asyncio": {"sleep", "timeout", "timeout_at", "wait_for"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
# On whatever they are called: an event loop has a clock of its own.
METHODS = {"call_later", "call_at"}


def test_no_clock_outside_the_clock() -> None:
    found = []
    for path in sources("server", "clients/python"):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py" and name not in CLOCKS:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{name}:{line}: {what}" for line, what in clocks_in(tree)]
    assert not found


def clocks_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Name each use of a clock, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="time" | "asyncio" as module, names=names):
                banned = MODULES[module] & {alias.name for alias in names}
                yield from (
                    (node.lineno, f"from {module} import {name}") for name in sorted(banned)
                )
            case ast.Attribute(value=ast.Name(id=owner), attr=attr) if attr in MODULES.get(
                owner, ()
            ):
                yield node.lineno, f"{owner}.{attr}"
            case ast.Attribute(value=ast.Attribute(attr=owner), attr=attr) if (
                owner in ("datetime", "date") and attr in MODULES[owner]
            ):
                yield node.lineno, f"{owner}.{attr}"
            case ast.Attribute(attr=attr) if attr in METHODS:
                yield node.lineno, attr
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="asyncio"), attr="wait"), keywords=keys
            ):
                if any(key.arg == "timeout" for key in keys):
                    yield node.lineno, "asyncio.wait(timeout=...)"
            case ast.Call(func=ast.Attribute(value=owner, attr="time")) if "loop" in ast.unparse(
                owner
            ):
                yield node.lineno, f"{ast.unparse(owner)}.time()"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.monotonic()",
        "from time import sleep",
        "import asyncio\nasyncio.timeout(1)",
        "import asyncio\nasyncio.wait(tasks, timeout=1)",
        "asyncio.get_running_loop().call_later(1, f)",
        "asyncio.get_running_loop().time()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.now(UTC)",
    ],
)
def test_the_search_finds_each_kind_of_clock(code: str) -> None:
    assert len(list(clocks_in(ast.parse(code)))) == 1


def test_the_search_leaves_the_clock_port_alone() -> None:
    code = "await clock.sleep(span)\nasync with clock.timeout(span): clock.now()"
    assert not list(clocks_in(ast.parse(code)))
