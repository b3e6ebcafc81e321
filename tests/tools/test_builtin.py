"""The built-in tools, and which models get them."""

import asyncio
import json
from typing import Any

import pytest

from chatd_server.domain.ids import ChatId, OwnerId, ToolCallId, TurnId
from chatd_server.domain.limits import TOOL_CANCEL_SECONDS_MAX, TOOL_RESULT_BYTES_MAX
from chatd_server.ports.tools import ToolContext, ToolOutput
from chatd_server.tools.builtin.source import BuiltinTools
from tests.kit.clock import ManualClock

CONTEXT = ToolContext(
    chat_id=ChatId("chat"),
    owner_id=OwnerId("owner"),
    turn_id=TurnId("turn"),
    call_id=ToolCallId("call"),
    called_at=1,
)


def run(clock: ManualClock, name: str, **arguments: Any) -> asyncio.Task[ToolOutput]:
    """Start a call of one of the sandbox's tools."""
    tools = BuiltinTools(clock).named("sandbox/echo")
    return asyncio.ensure_future(tools[name].run(json.dumps(arguments), CONTEXT))


def test_only_the_sandbox_is_offered_its_tools() -> None:
    """No vendor's model can call a tool that only exists to fail."""
    tools = BuiltinTools(ManualClock())

    assert list(tools.named("anthropic/sandbox/echo")) == ["current_time"]
    assert list(tools.named("sandbox/echo")) == [
        "current_time",
        "sandbox_wait",
        "sandbox_lookup",
        "sandbox_fail",
    ]


def test_what_may_be_run_again_after_a_crash_is_declared() -> None:
    """Waiting and failing are not; asking is."""
    tools = BuiltinTools(ManualClock()).named("sandbox/echo")

    assert {name for name, tool in tools.items() if tool.idempotent} == {
        "current_time",
        "sandbox_lookup",
    }
    assert not any(tool.ends_turn for tool in tools.values())


# --- current_time --------------------------------------------------------------------------


async def test_the_time_is_the_clocks_in_utc() -> None:
    """The default is UTC, which needs no time zone database."""
    output = await run(ManualClock(), "current_time")

    assert output.is_json
    assert json.loads(output.output) == {
        "time": "2026-01-01T00:00:00+00:00",
        "weekday": "Thursday",
        "timezone": "UTC",
    }


async def test_the_time_of_a_zone_is_local() -> None:
    """New York is still in the old year."""
    output = await run(ManualClock(), "current_time", timezone="America/New_York")

    assert json.loads(output.output) == {
        "time": "2025-12-31T19:00:00-05:00",
        "weekday": "Wednesday",
        "timezone": "America/New_York",
    }


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "", "../etc/passwd", "/etc", "a\0b"])
async def test_an_unknown_zone_is_an_error_that_names_it(name: str) -> None:
    """Unknown names, folders and paths give the same error."""
    output = await run(ManualClock(), "current_time", timezone=name)

    assert (output.is_error, output.output) == (
        True,
        f"There is no time zone {name!r}; names look like Europe/Oslo.",
    )


# --- the sandbox's -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "tag", "output"),
    [
        ("sandbox_wait", {"seconds": 2.5}, "sandbox.wait", {"waited_seconds": 2.5}),
        (
            "sandbox_lookup",
            {"key": "a", "seconds": 2.5},
            "sandbox.lookup",
            {"key": "a", "value": "ca234c55"},
        ),
    ],
    ids=["wait", "lookup"],
)
async def test_a_call_takes_the_requested_time(
    name: str, arguments: dict[str, Any], tag: str, output: dict[str, Any]
) -> None:
    """A client's author has time to watch a running tool, or to kill the server."""
    clock = ManualClock()
    call = run(clock, name, **arguments)

    assert await clock.sleeping(tag) == 2.5
    await clock.advance(2.4)
    assert not call.done()
    await clock.advance(0.1)

    assert json.loads((await call).output) == output


async def test_a_lookup_takes_no_time_unless_requested() -> None:
    """The same key has the same value."""
    first = await run(ManualClock(), "sandbox_lookup", key="ü")

    assert first == await run(ManualClock(), "sandbox_lookup", key="ü")
    assert first != await run(ManualClock(), "sandbox_lookup", key="u")


@pytest.mark.parametrize("arguments", [{}, {"seconds": -1}, {"seconds": 3601}, {"seconds": None}])
async def test_a_wait_has_bounds(arguments: dict[str, Any]) -> None:
    """No tool can run for days."""
    assert (await run(ManualClock(), "sandbox_wait", **arguments)).is_invalid_call


async def test_a_tool_can_fail_and_can_break() -> None:
    """An error is an output; the caller handles an exception."""
    output = await run(ManualClock(), "sandbox_fail", kind="error")

    assert output == ToolOutput("The tool failed, as it was asked to.", is_error=True)
    with pytest.raises(RuntimeError, match="sandbox_fail broke"):
        await run(ManualClock(), "sandbox_fail", kind="exception")
    assert (await run(ManualClock(), "sandbox_fail", kind="other")).is_invalid_call


async def test_a_result_can_be_too_long() -> None:
    """The service cuts it, not the tool."""
    output = await run(ManualClock(), "sandbox_fail", kind="too_long")

    assert len(output.output) > TOOL_RESULT_BYTES_MAX


@pytest.mark.parametrize(
    ("name", "arguments", "tag"),
    [
        ("sandbox_wait", {"seconds": 60}, "sandbox.wait"),
        ("sandbox_lookup", {"key": "a", "seconds": 60}, "sandbox.lookup"),
        ("sandbox_fail", {"kind": "hang"}, "sandbox.hang"),
    ],
)
async def test_a_tool_that_waits_can_be_cancelled(
    name: str, arguments: dict[str, Any], tag: str
) -> None:
    """An interrupt ends it at once and leaves no timer."""
    clock = ManualClock()
    call = run(clock, name, **arguments)
    await clock.sleeping(tag)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert clock.tags() == []


@pytest.mark.parametrize(("kind", "seconds"), [("hang", 3600), ("stubborn", 60)])
async def test_a_tool_that_is_not_stopped_ends_by_itself(kind: str, seconds: int) -> None:
    """A client can start nothing that runs for ever."""
    clock = ManualClock()
    call = run(clock, "sandbox_fail", kind=kind)
    await clock.sleeping(f"sandbox.{kind}")

    await clock.advance(seconds)

    assert (await call).output == "Nobody stopped the tool."


async def test_a_stubborn_tool_goes_on_when_it_is_cancelled() -> None:
    """It outlives the time that a tool has to stop, but not a second cancellation."""
    clock = ManualClock()
    call = run(clock, "sandbox_fail", kind="stubborn")
    await clock.sleeping("sandbox.stubborn")

    call.cancel()
    await clock.sleeping("sandbox.stubborn.cancelled")
    await clock.advance(TOOL_CANCEL_SECONDS_MAX + 1)
    assert not call.done()
    call.cancel()

    assert (await call).output == "Nobody stopped the tool."
