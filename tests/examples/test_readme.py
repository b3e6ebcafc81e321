"""The program of the README, as printed, against a server process."""

import re
from pathlib import Path

import pytest

from chatd_client import Voided
from chatd_server.demo.server import ServerProcess
from tests.examples.program import run

pytestmark = pytest.mark.timeout(120)

README = Path(__file__).parents[2] / "README.md"


def program() -> str:
    """Return the first block of Python."""
    found = re.search(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def words(count: int) -> re.Pattern[str]:
    """Return what so many words look like."""
    return re.compile(rf"\S+(?:\s+\S+){{{count - 1}}}\s*")


async def test_the_program_shows_an_answer_that_begins_again(server: ServerProcess) -> None:
    """The model breaks off in the middle. What was printed is said to be void, and what follows
    is the whole answer.
    """
    code, output, errors = await run(program(), server)
    assert (code, errors) == (0, "")
    void, mark, answer = output.partition(Voided())
    assert mark
    assert void
    assert answer.startswith(void)
    assert words(60).fullmatch(answer)
    assert Voided() not in answer


@pytest.mark.parametrize(
    ("model", "error"),
    [
        pytest.param(
            "anthropic/claude-sonnet-4-6",
            r"TurnFailed: No API key is configured for \S*anthropic\S*",
            id="no key",
        ),
        pytest.param("sandbox/none", "InvalidRequest: .*echo", id="no such model"),
        pytest.param("nobody/none", "InvalidRequest: .*nobody", id="no such vendor"),
    ],
)
async def test_the_program_with_a_model_that_cannot_answer_says_why(
    server: ServerProcess, model: str, error: str
) -> None:
    """It ends with an exception whose last line names the cause, and prints nothing else."""
    code, output, errors = await run(program().replace("sandbox/echo", model), server)
    assert (code, output) == (1, "")
    assert re.search(error, errors.splitlines()[-1])
