"""What `help(chatd_client)` shows: its program runs, and nothing public is without a word."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from itertools import takewhile

import pytest

import chatd_client
from chatd_server.demo.server import ServerProcess
from tests.examples.program import run


def program(module: object) -> str:
    """Return the first block of a module's docstring that is indented."""
    lines = iter((inspect.getdoc(module) or "").splitlines())
    first = next(line for line in lines if line.startswith("    "))
    rest = takewhile(lambda line: not line or line.startswith("    "), lines)
    return textwrap.dedent("\n".join([first, *rest]))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("module", [chatd_client, chatd_client.sync], ids=["client", "sync"])
async def test_the_program_of_the_help_does_what_it_shows(
    server: ServerProcess, module: object
) -> None:
    """The model calls its function, and the answer has what the function gave."""
    code, output, errors = await run(program(module), server)
    assert (code, errors) == (0, "")
    assert "It rains in Oslo." in output


def public_members() -> Iterator[tuple[str, object]]:
    """Yield what a user may call or read on the exported classes."""
    for name in chatd_client.__all__:
        exported = getattr(chatd_client, name)
        if inspect.isclass(exported) and exported.__module__.startswith("chatd_client"):
            for member, value in vars(exported).items():
                if not member.startswith("_") and (
                    inspect.isroutine(value) or isinstance(value, property)
                ):
                    yield f"{name}.{member}", value


MEMBERS = dict(public_members())


@pytest.mark.parametrize("name", MEMBERS)
def test_every_public_method_says_what_it_does(name: str) -> None:
    """A method of a twin says at least which one it is the twin of."""
    assert inspect.getdoc(MEMBERS[name]), f"{name} has no docstring"


METHODS = [
    (name, member)
    for name, member in MEMBERS.items()
    if name.startswith(("Client.", "ChatHandle.")) and inspect.isfunction(member)
]


@pytest.mark.parametrize(("name", "method"), METHODS, ids=[name for name, _ in METHODS])
def test_every_parameter_is_said(name: str, method: Callable[..., object]) -> None:
    """Its meaning and unit stand in the docstring of the method, or of its class."""
    of_class = getattr(chatd_client, name.partition(".")[0])
    said = f"{inspect.getdoc(method)}\n{inspect.getdoc(of_class)}"
    parameters = [it for it in inspect.signature(method).parameters if it != "self"]
    assert [it for it in parameters if f"`{it}`" not in said] == []
