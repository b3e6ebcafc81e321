"""Adding a group of RPCs is one file and one line: nothing else names them."""

import ast
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from chatd_server.rpc import calls
from chatd_server.rpc.calls import GROUPS, SERVICES
from tests.shape.tree import ROOT, sources

CALLS = Path(calls.__file__).parent
NAMES = {method.name for service in SERVICES for method in service.methods}


def groups() -> Iterator[ModuleType]:
    """Return every file of handlers."""
    for path in sorted(CALLS.glob("*.py")):
        if path.stem != "__init__":
            yield import_module(f"{calls.__name__}.{path.stem}")


def test_every_file_of_handlers_is_registered() -> None:
    """A group that nobody registered would answer NOT_IMPLEMENTED."""
    registered = {id(answers) for answers in GROUPS}
    assert [it.__name__ for it in groups() if id(it.ANSWERS) not in registered] == []
    assert len(list(groups())) == len(GROUPS)


def test_every_group_has_its_use_cases_in_the_file_of_the_same_name() -> None:
    """One feature has one name in each layer. What the server says of itself needs no use case."""
    service = ROOT / "server" / "chatd_server" / "service"
    names = {it.__name__.rpartition(".")[2] for it in groups()} - {"admin"}
    assert names <= {path.stem for path in service.glob("*.py")}


def test_an_rpc_is_named_only_where_it_is_registered() -> None:
    """A second list of RPCs would be forgotten by the next person who adds one."""
    named = Counter(name for path in sources("server/chatd_server") for name in rpcs_in(path))
    assert named == {name: 1 for group in GROUPS for name in group}


def test_an_rpc_about_a_chat_has_the_id_of_one() -> None:
    """Without it each bad request would be answered with CHAT_NOT_FOUND."""
    requests = {it.name: it.input_type for service in SERVICES for it in service.methods}
    for group in GROUPS:
        for name, answer in group.items():
            has_one = "chat_id" in requests[name].fields_by_name
            assert has_one or not answer.is_about_a_chat, name


def rpcs_in(path: Path) -> Iterator[str]:
    """Yield the RPCs that are string values in a file, alone or behind their service.

    The command line and the demo are clients: they name the calls that they make.
    """
    if path.suffix != ".py" or {"cli", "demo"} & set(path.parts):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.rpartition("/")[2]
            if name in NAMES:
                yield name
