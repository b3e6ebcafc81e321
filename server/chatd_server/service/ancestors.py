"""Who may have children: families have FAMILY_DEPTH_MAX levels below their root."""

from chatd_server.domain.ids import ChatId, OwnerId
from chatd_server.domain.limits import FAMILY_DEPTH_MAX
from chatd_server.domain.refusal import FamilyTooDeep, Violation
from chatd_server.ports.store import ChatStore


async def check_parent(store: ChatStore, owner_id: OwnerId, parent_id: ChatId) -> ChatId:
    """Return the id of a chat that may have children; raises ChatNotFound, FamilyTooDeep.

    Whether it is archived says the transition that makes the child.
    """
    above = await ancestors(store, owner_id, parent_id, at_most=FAMILY_DEPTH_MAX)
    if len(above) >= FAMILY_DEPTH_MAX:
        why = f"is a child itself, and families have one level; give its root {above[-1]}"
        raise FamilyTooDeep(Violation("parent_chat_id", why))
    return parent_id


async def ancestors(
    store: ChatStore, owner_id: OwnerId, chat_id: ChatId, *, at_most: int
) -> tuple[ChatId, ...]:
    """Return the nearest ancestors of a chat, parent first: one read for each, and none twice, if
    the database ever has a circle.
    """
    found: list[ChatId] = []
    state = await store.load(chat_id, owner_id)
    while state.parent_id is not None and len(found) < at_most:
        if state.parent_id in (chat_id, *found):
            break
        found.append(state.parent_id)
        state = await store.load(state.parent_id, owner_id)
    return tuple(found)
