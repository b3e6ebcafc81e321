"""Tool results as values: for the output of a tool, and for calls without output."""

from collections.abc import Sequence

from chatd_server.domain.chat import OpenCall
from chatd_server.domain.ids import Instant
from chatd_server.domain.limits import TOOL_RESULT_BYTES_MAX
from chatd_server.domain.message import ToolErrorKind, ToolResult
from chatd_server.domain.text import cut_to, well_formed
from chatd_server.ports.tools import ToolOutput

CUT_NOTE = f"\n[cut: the result was longer than {TOOL_RESULT_BYTES_MAX} bytes]"
"""The end of a result that was cut; it counts towards the limit."""


def result_of(call: OpenCall, given: ToolOutput, at: Instant) -> ToolResult:
    """Return the tool's output as a result, cut to the limit."""
    output, is_cut = cut(well_formed(given.output))
    return ToolResult(
        call_id=call.id,
        name=call.name,
        output=output,
        executor=call.executor,
        created_at=at,
        # Truncated output is not valid JSON.
        is_json=given.is_json and not is_cut,
        error=_error_kind(given),
        truncated=is_cut,
        files=given.files,
    )


def _error_kind(given: ToolOutput) -> ToolErrorKind | None:
    if given.is_invalid_call:
        return ToolErrorKind.INVALID_CALL
    return ToolErrorKind.FAILED if given.is_error else None


def failed(call: OpenCall, error: BaseException, at: Instant) -> ToolResult:
    """Return the result of a tool that raised. It leaves out the message: it may hold secrets."""
    text = f"the tool {call.name} failed unexpectedly ({type(error).__name__})"
    return call.error(ToolErrorKind.FAILED, text, at)


def invalid(call: OpenCall, available: Sequence[str], at: Instant) -> ToolResult:
    """Return the result of a call to a tool that does not exist."""
    names = ", ".join(available) or "none"
    text = f"there is no tool {call.name[:64]!r}; available tools: {names}"
    return call.error(ToolErrorKind.INVALID_CALL, text, at)


def abandoned(call: OpenCall, at: Instant) -> ToolResult:
    """Return the result of a call whose tool ignored its cancellation and may still run."""
    text = (
        "Outcome unknown: this call did not end when the turn was stopped. It may or may not "
        "take effect; check before doing it again."
    )
    return call.error(ToolErrorKind.OUTCOME_UNKNOWN, text, at)


def cut(text: str) -> tuple[str, bool]:
    """Cut the text to TOOL_RESULT_BYTES_MAX at a character boundary; return whether it was cut."""
    return cut_to(text, TOOL_RESULT_BYTES_MAX, CUT_NOTE)
