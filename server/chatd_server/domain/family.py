"""Rule 9: what a family does together. All of it is written in one transaction, or nothing.

Archiving and deleting a root takes its children along. A parent's log tells of its children, by the
transition that changes them: seldom enough that children do not wait for each other at their
parent's row. No step of a turn tells anything.
"""

from collections.abc import Sequence

import msgspec

from chatd_server.domain.chain import Chain, decide
from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import (
    Command,
    Create,
    DeleteChat,
    SetArchived,
    TellOfChildren,
)
from chatd_server.domain.event import SubagentChanged
from chatd_server.domain.ids import ChatId, Instant, ToolCallId
from chatd_server.domain.machine import advance
from chatd_server.domain.message import Value
from chatd_server.domain.refusal import ChatArchived, ChatNotFound, WrongStatus
from chatd_server.domain.transition import Transition

TOLD = frozenset({Status.WAITING, Status.REQUIRES_ACTION, Status.ERROR})
"""A parent is told when a child comes into one of these: it waits for somebody else."""


class Step(Value, frozen=True):
    """What happens to one member, and under which id it is recorded."""

    old: ChatState | None
    transition: Transition
    command_id: str


def news_of(old: ChatState | None, new: ChatState) -> SubagentChanged | None:
    """Return what a child's transition tells its parent; None for a root, and for most of them."""
    if new.parent_id is None:
        return None
    if (
        old is not None
        and (new.status is old.status or new.status not in TOLD)
        and (new.config is old.config or new.config.title == old.config.title)
        and new.archived == old.archived
        and new.deleted == old.deleted
    ):
        return None
    return SubagentChanged(
        chat_id=new.id,
        status=new.status,
        title=new.config.title,
        call_id=new.parent_call_id or ToolCallId(""),
        archived=new.archived,
        deleted=new.deleted,
    )


def check_parent(parent: ChatState | None, parent_id: ChatId) -> ChatState:
    """Return a parent that takes a child; raises ChatNotFound, ChatArchived."""
    if parent is None or parent.deleted:
        raise ChatNotFound(parent_id)
    if parent.archived:
        raise ChatArchived(
            parent.status,
            f"the parent chat {parent_id!r} is archived; unarchive it first",
            parent_id,
        )
    return parent


def advance_child(
    parent: ChatState | None, child: ChatState | None, order: Command | Chain, now: Instant
) -> tuple[Step, ...]:
    """Return what an order does to a child, and what its parent's log tells of it; pure.

    Raises what `decide` raises, and what `check_parent` does for a new child and for one that is
    unarchived.
    """
    needs_parent = isinstance(order, Create) or (
        isinstance(order, SetArchived) and not order.archived
    )
    if needs_parent:
        parent_id = order.parent_id if isinstance(order, Create) else child and child.parent_id
        check_parent(parent, parent_id or ChatId(""))
    done = decide(child, order, now)
    step = Step(child, _counted(order, done, int(done.changed)), order.command_id)
    news = news_of(child, done.state) if done.changed else None
    if news is None or parent is None or parent.deleted:
        return (step,)
    told = _telling(done.state, (news,))
    return step, Step(parent, advance(parent, told, now), told.command_id)


def advance_family(
    root: ChatState,
    children: Sequence[ChatState],
    command: SetArchived | DeleteChat,
    now: Instant,
) -> tuple[Step, ...]:
    """Return what happens to the root and to its children, root first, then by id; pure.

    A deleted child is left out. Raises what `advance` raises for the first that refuses:
    WrongStatus with the status of that chat and its id, or ChatNotFound.
    """
    assert all(child.root_id == root.id for child in children), "a child of another family"
    first = advance(root, command, now)
    steps = []
    for child in sorted((it for it in children if not it.deleted), key=lambda it: it.id):
        try:
            done = advance(child, command, now)
        except WrongStatus as refusal:
            raise _in_the_way(child, refusal) from refusal
        steps.append(Step(child, done, command.command_id))
    changed = [it.transition for it in steps if it.transition.changed]
    news = [it for step in steps if (it := news_of(step.old, step.transition.state)) is not None]
    count = len(changed) + first.changed
    if news and not first.state.deleted:
        told = advance(first.state, _telling(first.state, tuple(news)), now)
        first = msgspec.structs.replace(told, events=first.events + told.events)
    return Step(root, _counted(command, first, count), command.command_id), *steps


def _telling(changed: ChatState, news: tuple[SubagentChanged, ...]) -> TellOfChildren:
    # The same for the same change, whoever decides it again.
    return TellOfChildren(command_id=f"{changed.id}:{changed.revision}", news=news)


def _counted(order: Command | Chain, done: Transition, count: int) -> Transition:
    if not isinstance(order, SetArchived | DeleteChat):
        return done
    reply = msgspec.structs.replace(done.reply, chats=count)
    return msgspec.structs.replace(done, reply=reply)


def _in_the_way(child: ChatState, refusal: WrongStatus) -> WrongStatus:
    return type(refusal)(
        child.status,
        f"the child chat {child.id!r} is {child.status}; wait until it is idle, or interrupt it",
        child.id,
    )
