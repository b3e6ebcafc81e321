"""The tool `current_time`."""

from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from chatd_server.domain.ids import MICROSECONDS
from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import ToolOutput
from chatd_server.tools.function_tool import FunctionTool


def current_time_tool(clock: Clock) -> FunctionTool:

    async def current_time(
        timezone: Annotated[
            str | None, "IANA name of a time zone, such as Europe/Oslo; without it UTC."
        ] = None,
    ) -> object:
        """Return the current date and time."""
        zone = _zone(timezone)
        if zone is None:
            return ToolOutput(
                f"There is no time zone {timezone!r}; names look like Europe/Oslo.", is_error=True
            )
        now = datetime.fromtimestamp(clock.now() // MICROSECONDS, zone)
        return {
            "time": now.isoformat(),
            "weekday": _WEEKDAYS[now.weekday()],
            "timezone": timezone or "UTC",
        }

    return FunctionTool(current_time, idempotent=True)


# Not from strftime, which depends on the locale.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _zone(name: str | None) -> tzinfo | None:
    """Return the zone. UTC works without a time zone database, which some hosts lack."""
    if name is None or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        # Unknown, not a valid key ("../x"), or a directory ("Europe").
        return None
