"""Rule 9: what happens to a chat and its children happens to all of them or to none."""

from collections.abc import Sequence

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import SetArchived
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine import advance
from chatd_server.domain.transition import Transition


def advance_family(
    root: ChatState, children: Sequence[ChatState], command: SetArchived, now: Instant
) -> tuple[Transition, ...]:
    """Return the transitions of the root and of its children, root first, then by id; pure.

    A deleted child is left out. A store writes all of them in one transaction and compares every
    revision. Raises what `advance` raises for the first that refuses: WrongStatus with the
    status of that chat, or ChatNotFound.
    """
    assert all(child.root_id == root.id for child in children), "a child of another family"
    present = sorted((it for it in children if not it.deleted), key=lambda it: it.id)
    return tuple(advance(member, command, now) for member in (root, *present))
