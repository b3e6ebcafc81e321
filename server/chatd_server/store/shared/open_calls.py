"""Open calls: the chat's row lists them, the journal says when each started and how it ended."""

from collections.abc import Collection, Mapping
from typing import TypeAlias

import msgspec

from chatd_server.domain.chat import ChatState, OpenCall
from chatd_server.domain.ids import Instant, ToolCallId
from chatd_server.domain.message import ToolResult

Journal: TypeAlias = Mapping[ToolCallId, tuple[Instant | None, ToolResult | None]]
"""When each open call was started, and its outcome."""


def with_journal(
    calls: tuple[OpenCall, ...],
    journal: Journal,
) -> tuple[OpenCall, ...]:
    """Return the calls with their entries of the journal."""
    return tuple(
        msgspec.structs.replace(call, started_at=entry[0], outcome=entry[1])
        if (entry := journal.get(call.id)) is not None
        else call
        for call in calls
    )


def without_journal(calls: tuple[OpenCall, ...]) -> tuple[OpenCall, ...]:
    """Return the calls as they stand in the chat's row."""
    if all(call.started_at is None and call.outcome is None for call in calls):
        return calls
    return tuple(msgspec.structs.replace(call, started_at=None, outcome=None) for call in calls)


def without_answered(state: ChatState, answered: Collection[ToolCallId]) -> ChatState:
    """Return the state without the calls whose results the journal has."""
    if not answered:
        return state
    left = tuple(call for call in state.calls if call.id not in answered)
    return msgspec.structs.replace(state, calls=left)
