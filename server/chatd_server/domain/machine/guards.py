"""The conditions of the rows, by the names that the table and docs/states.md show.

A name says all that its guard admits. "No other turn" means no `expected_turn_id`, or the open
turn's.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import BusyBehavior, Interrupt, SendMessage, UpdateChat
from chatd_server.domain.ids import Instant
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.machine.calls import completes

# A guard takes the command of its row, which a table cannot say in types.
Guard: TypeAlias = Callable[[ChatState, Any, Instant], bool]


def _names_other(state: ChatState, command: Interrupt | SendMessage) -> bool:
    """Rule 8: say whether the command names a turn, and not the open one."""
    expected = command.expected_turn_id
    return bool(expected) and (state.turn is None or state.turn.id != expected)


def _only_labels(command: UpdateChat) -> bool:
    rest = msgspec.structs.replace(command, labels=None, etag_version=None)
    return rest == UpdateChat(command_id=command.command_id)


def _lease_expired(state: ChatState, now: Instant) -> bool:
    return state.lease is not None and state.lease.expires_at <= now


GUARDS: Mapping[str, Guard] = {
    "no message": lambda _s, c, _n: not c.parts,
    "QUEUE, or INTERRUPT of another turn": lambda s, c, _: (
        c.busy is BusyBehavior.QUEUE or (c.busy is BusyBehavior.INTERRUPT and _names_other(s, c))
    ),
    "INTERRUPT of no other turn": lambda s, c, _: (
        c.busy is BusyBehavior.INTERRUPT and not _names_other(s, c)
    ),
    "REJECT": lambda _s, c, _n: c.busy is BusyBehavior.REJECT,
    "names no other turn": lambda s, c, _: not _names_other(s, c),
    "names no other turn, queue is empty": lambda s, c, _: not (_names_other(s, c) or s.queue),
    "allow_partial, and calls stay open": lambda s, c, _: (
        c.allow_partial and not completes(s.calls, c)
    ),
    "queue is empty": lambda s, _c, _n: not s.queue,
    "no field but labels": lambda _s, c, _n: _only_labels(c),
    "no lease, or an expired one": lambda s, _c, now: s.lease is None or _lease_expired(s, now),
    "lease expired": lambda s, _c, now: _lease_expired(s, now),
    f"lease expired, {RESCUES_MAX} rescues in a row": lambda s, _c, now: (
        _lease_expired(s, now) and s.rescues >= RESCUES_MAX
    ),
    "deadline reached": lambda s, _c, now: s.action is not None and s.action.deadline <= now,
}
