"""Payloads of durable events, cut to what one event may carry."""

from collections.abc import Iterable

from chatd_server.domain.chat import ChatConfig, OpenCall, Queued
from chatd_server.domain.event import ChatUpdated, PendingCall, QueueEntry, preview
from chatd_server.domain.limits import EVENT_PAYLOAD_BYTES_MAX
from chatd_server.domain.message import Executor

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
