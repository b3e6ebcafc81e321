"""The state machine of a chat: one table, and `advance`, its only reader.

Everything that decides what may happen next changes through `advance`: it is pure, so a store
may call it inside a transaction, twice, or on another replica, and gets the same answer.

Rules that hold in every row:

1. A command without a row is refused (WrongStatus) with the actual status.
2. Open tool calls: see `calls`.
3. Leaving `error` clears the error, archiving does not.
4. The lease is set by Acquire only, kept from running to interrupting, and cleared by every
   row that ends in another status. A worker's command without the newest lease is LeaseLost.
5. A stop has a cause; it arrives here as the command that was chosen because of it.
6. On an archived chat only the rows marked so are possible, else ChatArchived.
7. `now` is store time. Rows that depend on it say so in their guard.
8. A client that names the turn it means to cut cuts no other.
9. A family is archived as a whole: `domain.family`.

Events of one transition stand in a fixed order: truncation, messages, action, queue, status.
Every change of the status is exactly one `status_changed`. When a turn ends and the queue's
head begins the next one, there are two, both with the status that the chat has then: the first
names the old turn and why it ended, the second names the new turn.
"""

from collections.abc import Mapping
from typing import Any

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import (
    Acquire,
    ApiCommand,
    Command,
    Create,
    ExpireAction,
    Rescue,
    SubmitToolResults,
    WorkerCommand,
)
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine.guards import GUARDS, Guard
from chatd_server.domain.machine.rules import chats
from chatd_server.domain.machine.table import TABLE, Row
from chatd_server.domain.refusal import (
    ChatArchived,
    ChatNotFound,
    LeaseLost,
    NotWaitingForAction,
    WrongStatus,
)
from chatd_server.domain.transition import Transition

WITHOUT_LEASE: frozenset[type[Command]] = frozenset({Acquire, Rescue, ExpireAction})
"""Workers' commands that need no lease: they name the epoch that they saw."""

REFUSALS: Mapping[type[Command], type[WrongStatus]] = {SubmitToolResults: NotWaitingForAction}
"""Refusals with a reason of their own where rule 1 applies."""


def _index() -> dict[type[Any], dict[Status, tuple[tuple[Guard | None, Row], ...]]]:
    found: dict[type[Any], dict[Status, tuple[tuple[Guard | None, Row], ...]]] = {}
    for row in TABLE:
        by_status = found.setdefault(row.command, {})
        guard = GUARDS[row.guard] if row.guard else None
        for status in row.statuses:
            by_status[status] = (*by_status.get(status, ()), (guard, row))
    return found


_ROWS = _index()


def advance(state: ChatState | None, command: Command, now: Instant) -> Transition:
    """Return what the command does to the chat; pure.

    `now` is store time. `state.calls` must carry their journal when the command closes calls.
    Raises ChatNotFound (none, or deleted), WrongStatus and its kinds, LeaseLost, and what a
    rule refuses: InvalidRequest, MessageNotFound, EtagMismatch. Nothing has changed then.
    """
    kind = type(command)
    if state is None or kind is Create or state.deleted:
        return _without_chat(state, command, now)
    if isinstance(command, WorkerCommand):
        _check_lease(state, command, kind)
    for guard, row in _ROWS[kind].get(state.status, ()):
        if (guard is None or guard(state, command, now)) and (row.archived or not state.archived):
            transition = row.rule(state, command, now)
            assert transition.state.status in (row.targets or (state.status,)), row.what
            return transition
    raise _refusal(state, kind)


def _without_chat(state: ChatState | None, command: Command, now: Instant) -> Transition:
    if isinstance(command, Create):
        if state is None:
            return chats.create(command, now)
        raise WrongStatus(state.status, f"the chat {state.id!r} exists already")
    raise ChatNotFound("" if state is None else state.id)


def _check_lease(state: ChatState, command: WorkerCommand, kind: type[Command]) -> None:
    """Rule 4. A command without a lease races too: the epoch that it saw must be the newest."""
    if kind in WITHOUT_LEASE:
        held = command.epoch == state.epoch
    else:
        lease = state.lease
        held = (
            lease is not None
            and lease.epoch == command.epoch
            and lease.worker_id == command.worker_id
        )
    if not held:
        raise LeaseLost(f"epoch {command.epoch} of {command.worker_id!r} is not the newest lease")


def _refusal(state: ChatState, kind: type[Command]) -> WrongStatus:
    if state.archived and issubclass(kind, ApiCommand):
        return ChatArchived(state.status, "the chat is archived; unarchive it first")
    refusal = REFUSALS.get(kind, WrongStatus)
    return refusal(
        state.status, f"{kind.__name__} is not possible while the chat is {state.status}"
    )
