"""The state machine of a chat: `advance`, the only reader of the table.

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
9. A family is archived and deleted as a whole, and a parent's log tells of its children: see
   `domain.family`.

Every change of the status is exactly one `status_changed`. When a turn ends and the queue's
head begins the next one, there are two, both with the status that the chat has then: the first
names the old turn and why it ended, the second names the new turn.
"""

from collections.abc import Callable, Mapping
from typing import Any

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import WITHOUT_LEASE, ApiCommand, Command, Create, WorkerCommand
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine.change import begin
from chatd_server.domain.machine.guards import GUARDS, Guard
from chatd_server.domain.machine.rules.chats import new_chat
from chatd_server.domain.machine.table import REFUSALS, TABLE, Row
from chatd_server.domain.refusal import ChatArchived, ChatNotFound, LeaseLost, WrongStatus
from chatd_server.domain.transition import Transition


def _index() -> dict[type[Any], dict[Status | None, tuple[tuple[Guard | None, Row], ...]]]:
    found: dict[type[Any], dict[Status | None, tuple[tuple[Guard | None, Row], ...]]] = {}
    for row in TABLE:
        by_status = found.setdefault(row.command, {})
        guard = GUARDS[row.guard] if row.guard else None
        for status in row.statuses:
            by_status[status] = (*by_status.get(status, ()), (guard, row))
    return found


_ROWS = _index()


def _holds_lease(state: ChatState, command: WorkerCommand) -> None:
    lease = state.lease
    if lease is None or lease.epoch != command.epoch or lease.worker_id != command.worker_id:
        raise _lease_lost(command)


def _saw_newest_epoch(state: ChatState, command: WorkerCommand) -> None:
    """A command without a lease races too."""
    if command.epoch != state.epoch:
        raise _lease_lost(command)


def _lease_lost(command: WorkerCommand) -> LeaseLost:
    return LeaseLost(f"epoch {command.epoch} of {command.worker_id!r} is not the newest lease")


# Rule 4. Looked up by type, because isinstance takes longer than the check.
_LEASE_CHECKS: Mapping[type[Any], Callable[[ChatState, Any], None]] = {
    row.command: _saw_newest_epoch if row.command in WITHOUT_LEASE else _holds_lease
    for row in TABLE
    if issubclass(row.command, WorkerCommand)
}


def advance(state: ChatState | None, command: Command, now: Instant) -> Transition:
    """Return what the command does to the chat; pure.

    `now` is store time. `state.calls` must carry their journal when the command closes calls.
    Raises ChatNotFound (no chat, or a deleted one), WrongStatus and its kinds, LeaseLost, and what
    a rule raises: InvalidRequest, MessageNotFound, EtagMismatch. Nothing has changed then.
    """
    kind = type(command)
    if state is None or kind is Create or state.deleted:
        status, state = None, _without_chat(state, command, now)
    else:
        status = state.status
        check = _LEASE_CHECKS.get(kind)
        if check is not None:
            check(state, command)
    for guard, row in _ROWS[kind].get(status, ()):
        if (guard is None or guard(state, command, now)) and (row.archived or not state.archived):
            return row.rule(begin(state, now, row.target or state.status), command)
    raise _refusal(state, kind)


def _without_chat(state: ChatState | None, command: Command, now: Instant) -> ChatState:
    """Return the state from which a chat begins. Raises ChatNotFound for all but Create."""
    if not isinstance(command, Create):
        raise ChatNotFound("" if state is None else state.id)
    if state is not None:
        raise WrongStatus(state.status, f"the chat {state.id!r} exists already")
    return new_chat(command, now)


def _refusal(state: ChatState, kind: type[Command]) -> WrongStatus:
    if state.archived and issubclass(kind, ApiCommand):
        return ChatArchived(state.status, "the chat is archived; unarchive it first")
    refusal = REFUSALS.get(kind, WrongStatus)
    return refusal(
        state.status, f"{kind.__name__} is not possible while the chat is {state.status}"
    )
