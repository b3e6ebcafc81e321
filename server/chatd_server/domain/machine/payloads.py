"""Payloads of durable events, cut to what one event may carry."""

from collections.abc import Iterable

from chatd_server.domain.chat import ChatConfig, OpenCall, Queued
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.event import (
    ChatUpdated,
    CompactionFinished,
    PendingCall,
    QueueEntry,
    preview,
)
from chatd_server.domain.limits import EVENT_PAYLOAD_BYTES_MAX, SUMMARY_SHOWN_BYTES_MAX
from chatd_server.domain.message import CompactionSource, Executor, Part, Text
from chatd_server.domain.text import cut_to

SYSTEM_PROMPT_PREVIEW_CHARACTERS = 1000
"""Characters of a new system prompt that `chat_updated` shows."""


def queue_entries(queue: Iterable[Queued]) -> tuple[QueueEntry, ...]:
    """Return what `queue_changed` and a snapshot show of a queue, head first."""
    return tuple(QueueEntry(id=queued.id, preview=preview(queued.parts)) for queued in queue)


def pending_calls(calls: Iterable[OpenCall]) -> tuple[PendingCall, ...]:
    """Return what `action_required` and a snapshot show of the client's open calls.

    Arguments are EVENT_PAYLOAD_BYTES_MAX together at most; those that do not fit are empty
    and stand in the message.
    """
    room = EVENT_PAYLOAD_BYTES_MAX
    shown: list[PendingCall] = []
    for call in calls:
        if call.executor is not Executor.CLIENT:
            continue
        size = len(call.arguments.encode())
        fits = size <= room
        room -= size if fits else 0
        shown.append(
            PendingCall(
                id=call.id,
                name=call.name,
                arguments=call.arguments if fits else "",
                created_at=call.created_at,
                answered=call.outcome is not None,
            )
        )
    return tuple(shown)


def compaction_finished(
    source: CompactionSource, boundary_position: int, level: ContextLevel | None
) -> CompactionFinished:
    """Return what the event says of any compaction; `level` is how full the context was."""
    if level is None:
        return CompactionFinished(source, boundary_position)
    return CompactionFinished(
        source,
        boundary_position,
        tokens_before=level.use.used_tokens,
        used_percent=level.used_percent,
        threshold_percent=level.threshold_percent,
        limit=level.limit,
    )


_SUMMARY_CUT = "\n[cut: the message has the whole summary]"


def shown_summary(parts: tuple[Part, ...]) -> str:
    """Return the text of a summary without its introduction, as the event shows it."""
    text = "".join(part.text for part in parts[1:] if isinstance(part, Text))
    return cut_to(text, SUMMARY_SHOWN_BYTES_MAX, _SUMMARY_CUT)[0]


def chat_updated(old: ChatConfig, new: ChatConfig) -> ChatUpdated:
    """Return the fields in which two configurations differ."""
    return ChatUpdated(
        title=None if new.title == old.title else new.title,
        model=None if new.model == old.model else new.model,
        labels=None if new.labels == old.labels else new.labels,
        system_prompt=(
            None
            if new.system_prompt == old.system_prompt
            else new.system_prompt[:SYSTEM_PROMPT_PREVIEW_CHARACTERS]
        ),
        tools=None if new.tools == old.tools else tuple(tool.name for tool in new.tools),
    )
