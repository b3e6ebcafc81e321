"""Which rows a transition changes."""

from collections.abc import Sequence

import msgspec

from chatd_server.domain.chat import ChatState, Queued
from chatd_server.domain.message import ToolResult
from chatd_server.store.shared.columns import Columns
from chatd_server.store.shared.rows import CONFIG, LEASE, OWNED, STATUS, STEP


def is_step(old: ChatState, new: ChatState) -> bool:
    """Say whether the transition leaves status, lease, queue and configuration as they are.

    Such a transition writes no indexed column of `chats`: the common case of a running turn.
    """
    return (
        old.lease is not None
        and new.status is old.status
        and new.lease == old.lease
        and new.queue is old.queue
        and new.config is old.config
        and new.archived is old.archived
        and new.deleted is old.deleted
        and new.owner_id == old.owner_id
    )


_STEP = (STEP,)
_CHANGED = {
    (False, False): (STEP, STATUS, OWNED),
    (True, False): (STEP, STATUS, OWNED, LEASE),
    (False, True): (STEP, STATUS, OWNED, CONFIG),
    (True, True): (STEP, STATUS, OWNED, LEASE, CONFIG),
}


def changed_columns(old: ChatState, new: ChatState) -> Sequence[Columns]:
    """Return the columns of `chats` that a transition writes.

    A lease that stays is not written: a heartbeat may have extended it meanwhile.
    """
    if is_step(old, new):
        return _STEP
    has_config = new.config is not old.config and new.config != old.config
    return _CHANGED[new.lease != old.lease, has_config]


class SideRows(msgspec.Struct, frozen=True):
    """What changes besides the chat, its messages and its events. Mostly nothing."""

    #: Messages that entered the queue.
    enqueued: tuple[Queued, ...] = ()
    #: Ids of messages that left it.
    dequeued: tuple[str, ...] = ()
    #: Results of client calls answered in part.
    outcomes: tuple[ToolResult, ...] = ()
    #: Ids of calls that are no longer open: their journal is deleted.
    closed: tuple[str, ...] = ()


NO_SIDE_ROWS = SideRows()


def side_rows(old: ChatState | None, new: ChatState) -> SideRows:
    """Return what a transition changes besides the chat's row."""
    if old is None or (new.queue is old.queue and not old.calls):
        return NO_SIDE_ROWS
    enqueued: tuple[Queued, ...] = ()
    dequeued: tuple[str, ...] = ()
    if new.queue is not old.queue:
        before = {queued.id for queued in old.queue}
        after = {queued.id for queued in new.queue}
        enqueued = tuple(queued for queued in new.queue if queued.id not in before)
        dequeued = tuple(one for one in before if one not in after)
    outcomes: tuple[ToolResult, ...] = ()
    closed: tuple[str, ...] = ()
    if new.calls is not old.calls and old.calls:
        known = {call.id: call.outcome for call in old.calls}
        outcomes = tuple(
            call.outcome
            for call in new.calls
            if call.outcome is not None and call.outcome != known.get(call.id)
        )
        still_open = {call.id for call in new.calls}
        closed = tuple(one for one in known if one not in still_open)
    if not (enqueued or dequeued or outcomes or closed):
        return NO_SIDE_ROWS
    return SideRows(enqueued, dequeued, outcomes, closed)
