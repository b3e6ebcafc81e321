"""What time it is."""

from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from chatd_server.domain.ids import MICROSECONDS
from chatd_server.ports.clock import Clock
from chatd_server.ports.tools import ToolOutput
from chatd_server.tools.function_tool import FunctionTool


def current_time_tool(clock: Clock) -> FunctionTool:
    """Return the tool `current_time`."""

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


# Not strftime's, which speak the language of the machine.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _zone(name: str | None) -> tzinfo | None:
    """Return the zone; UTC needs no time zone database, which a bare machine may lack."""
    if name is None or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        # Unknown, no key at all ("../x"), or the name of a folder ("Europe").
        return None
