"""The conditions of the rows, by the name that the table and docs/states.md show."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import BusyBehavior
from chatd_server.domain.ids import Instant
from chatd_server.domain.limits import RESCUES_MAX
from chatd_server.domain.machine.calls import completes
from chatd_server.domain.machine.rules.chats import only_labels
from chatd_server.domain.machine.rules.turns import names_open_turn

# A guard takes the command of its row, which a table cannot say in types.
Guard: TypeAlias = Callable[[ChatState, Any, Instant], bool]

GUARDS: Mapping[str, Guard] = {
    "QUEUE": lambda s, c, _: (
        c.busy is BusyBehavior.QUEUE
        or (c.busy is BusyBehavior.INTERRUPT and not names_open_turn(s, c))
    ),
    "INTERRUPT": lambda s, c, _: c.busy is BusyBehavior.INTERRUPT and names_open_turn(s, c),
    "REJECT": lambda _s, c, _n: c.busy is BusyBehavior.REJECT,
    "means the open turn": lambda s, c, _: names_open_turn(s, c),
    "leaves calls open, and may": lambda s, c, _: c.allow_partial and not completes(s.calls, c),
    "queue is empty": lambda s, _c, _n: not s.queue,
    "only labels": lambda _s, c, _n: only_labels(c),
    "no live lease": lambda s, _c, now: s.lease is None or s.lease.expires_at <= now,
    "lease expired": lambda s, _c, now: s.lease is not None and s.lease.expires_at <= now,
    "lease expired, too often": lambda s, _c, now: (
        s.lease is not None and s.lease.expires_at <= now and s.rescues >= RESCUES_MAX
    ),
    "past the deadline": lambda s, _c, now: s.action is not None and s.action.deadline <= now,
}
