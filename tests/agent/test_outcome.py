"""Conversion of a tool's output to a result."""

import pytest

from chatd_server.agent.tools.outcome import result_of
from chatd_server.domain.chat import OpenCall
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.message import Executor, ToolErrorKind
from chatd_server.ports.tools import ToolOutput

CALL = OpenCall(id=ToolCallId("c"), name="shell", executor=Executor.SERVER, created_at=1)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param(ToolOutput("ok"), None, id="success"),
        pytest.param(ToolOutput("no", is_error=True), ToolErrorKind.FAILED, id="failed"),
        pytest.param(
            ToolOutput("not so", is_error=True, is_invalid_call=True),
            ToolErrorKind.INVALID_CALL,
            id="arguments that do not fit",
        ),
    ],
)
def test_a_result_says_whose_fault_an_error_is(
    given: ToolOutput, kind: ToolErrorKind | None
) -> None:
    """An invalid call of the model differs from a failed tool."""
    assert result_of(CALL, given, 2).error is kind
