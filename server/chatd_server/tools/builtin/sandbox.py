"""Tools offered only with the sandbox model, to test the handling of tools."""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Literal

from msgspec import Meta

from chatd_server.domain.limits import TOOL_RESULT_BYTES_MAX
from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import ToolOutput
from chatd_server.tools.function_tool import FunctionTool

SECONDS_MAX = 3_600
STUBBORN_SECONDS = 60
"""Much longer than a cancelled tool may take to stop."""

Seconds = Annotated[float, Meta(ge=0, le=SECONDS_MAX, description="How long the call takes.")]


def sandbox_tools(clock: Clock) -> Sequence[FunctionTool]:
    return (_wait_tool(clock), _lookup_tool(clock), _fail_tool(clock))


def _wait_tool(clock: Clock) -> FunctionTool:
    async def sandbox_wait(seconds: Seconds) -> object:
        """Wait, then return for how long. Not idempotent: after a crash its outcome is unknown."""
        await clock.sleep(seconds, "sandbox.wait")
        return {"waited_seconds": seconds}

    return FunctionTool(sandbox_wait)


def _lookup_tool(clock: Clock) -> FunctionTool:
    async def sandbox_lookup(
        key: Annotated[str, "What to look up; the same key has the same value."],
        seconds: Seconds = 0,
    ) -> object:
        """Look up a key. Idempotent: after a crash it runs again."""
        await clock.sleep(seconds, "sandbox.lookup")
        return {"key": key, "value": blake2b(key.encode(), digest_size=4).hexdigest()}

    return FunctionTool(sandbox_lookup, idempotent=True)


def _fail_tool(clock: Clock) -> FunctionTool:
    async def sandbox_fail(
        kind: Annotated[
            Literal["error", "exception", "hang", "stubborn", "too_long"],
            "error: returns an error; exception: raises one; hang: ends only when it is stopped; "
            "stubborn: ignores a stop; too_long: returns more than a result may hold.",
        ],
    ) -> object:
        """Fail in a chosen way."""
        match kind:
            case "error":
                return ToolOutput("The tool failed, as it was asked to.", is_error=True)
            case "exception":
                raise RuntimeError("sandbox_fail broke, as it was asked to")
            case "hang":
                await clock.sleep(SECONDS_MAX, "sandbox.hang")
            case "stubborn":
                await _stubborn(clock)
            case "too_long":
                return "too long " * (TOOL_RESULT_BYTES_MAX // 8)
        return "Nobody stopped the tool."

    return FunctionTool(sandbox_fail)


async def _stubborn(clock: Clock) -> None:
    """Wait for a minute; if cancelled, wait for another one."""
    for tag in ("sandbox.stubborn", "sandbox.stubborn.cancelled"):
        try:
            await clock.sleep(STUBBORN_SECONDS, tag)
        except asyncio.CancelledError:
            continue
        return
